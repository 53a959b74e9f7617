import { randomBytes } from 'node:crypto';
import { fstatSync, rmSync, type Stats } from 'node:fs';
import { type FileHandle, open, realpath, rename, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Failure, fileFailure } from './failure.js';

/** Where output goes. */
export interface Target {
  write(bytes: Uint8Array): Promise<void>;
  /** Everything was written and is genuine: makes it visible. */
  commit(): Promise<void>;
  /** Takes back what can be taken back; true if some of the output is out already. */
  discard(): Promise<boolean>;
}

/** `output` undefined or `-` is stdout. `input` is what is read, which is never overwritten. `mode` is for a new file. */
export async function openTarget(output: string | undefined, input: Stats, mode: number): Promise<Target> {
  if (output === undefined || output === '-') {
    const stdout = fstatSync(1);
    if (stdout.isFile() && sameFile(input, stdout)) throw overInput('standard output');
    return new Stream('standard output', (bytes) => writeTo(process.stdout, bytes));
  }
  const existing = await stat(output).catch(() => undefined);
  if (existing === undefined) return await Replacement.open(output, mode);
  if (existing.isDirectory()) throw new Failure('FILE', `cannot write ${output}: it is a directory`);
  if (sameFile(input, existing)) throw overInput(output);
  // Through a symbolic link the file behind it is replaced, not the link.
  if (existing.isFile()) return await Replacement.open(await realpath(output), mode);
  return await openDevice(output);
}

function sameFile(a: Stats, b: Stats): boolean {
  return a.ino === b.ino && a.dev === b.dev;
}

function overInput(name: string): Failure {
  return new Failure('USAGE', `${name} is the input itself, which is never overwritten`, 'name another file with -o FILE');
}

function writeTo(stream: NodeJS.WritableStream, bytes: Uint8Array): Promise<void> {
  return new Promise((done, fail) => {
    stream.write(bytes, (error) => (error ? fail(error) : done()));
  });
}

/** A device, a pipe, stdout: cannot be replaced, so bytes go out as they come. */
async function openDevice(path: string): Promise<Target> {
  try {
    const file = await open(path, 'w');
    return new Stream(
      path,
      (bytes) => file.writeFile(bytes),
      () => file.close(),
    );
  } catch (error) {
    throw fileFailure('write', path, error);
  }
}

class Stream implements Target {
  readonly #name: string;
  readonly #put: (bytes: Uint8Array) => Promise<void>;
  readonly #end: () => Promise<void>;
  #begun = false;

  constructor(name: string, put: (bytes: Uint8Array) => Promise<void>, end: () => Promise<void> = async () => {}) {
    this.#name = name;
    this.#put = put;
    this.#end = end;
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.#begun ||= bytes.length > 0;
    try {
      await this.#put(bytes);
    } catch (error) {
      throw fileFailure('write', this.#name, error);
    }
  }

  commit(): Promise<void> {
    return this.#end();
  }

  async discard(): Promise<boolean> {
    await this.#end();
    return this.#begun;
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** A temporary file beside the target, which takes its name only when it is whole. */
class Replacement implements Target {
  readonly #path: string;
  readonly #temporary: string;
  readonly #file: FileHandle;
  readonly #ignoreSignals: () => void;

  private constructor(path: string, temporary: string, file: FileHandle, ignoreSignals: () => void) {
    this.#path = path;
    this.#temporary = temporary;
    this.#file = file;
    this.#ignoreSignals = ignoreSignals;
  }

  static async open(path: string, mode: number): Promise<Replacement> {
    const temporary = join(dirname(path), `.progressdb-kms.${randomBytes(8).toString('hex')}.tmp`);
    const ignoreSignals = removedBySignal(temporary);
    try {
      return new Replacement(path, temporary, await open(temporary, 'wx', mode), ignoreSignals);
    } catch (error) {
      ignoreSignals();
      throw fileFailure('write', path, error);
    }
  }

  async write(bytes: Uint8Array): Promise<void> {
    try {
      await this.#file.writeFile(bytes);
    } catch (error) {
      throw fileFailure('write', this.#path, error);
    }
  }

  async commit(): Promise<void> {
    try {
      // Without it a crash soon after could leave the name on an empty file, and the one it replaced would be gone.
      await this.#file.sync();
      await this.#file.close();
      await rename(this.#temporary, this.#path);
    } catch (error) {
      await this.discard();
      throw fileFailure('write', this.#path, error);
    }
    this.#ignoreSignals();
  }

  async discard(): Promise<boolean> {
    await this.#file.close();
    await unlink(this.#temporary).catch(() => {});
    this.#ignoreSignals();
    return false;
  }
}

/** From before the file is made, so that no signal finds it there and nobody to remove it. Returns what ends this. */
function removedBySignal(path: string): () => void {
  const onSignal = (signal: NodeJS.Signals) => {
    rmSync(path, { force: true });
    ignore();
    process.kill(process.pid, signal);
  };
  const ignore = () => {
    for (const signal of SIGNALS) process.off(signal, onSignal);
  };
  for (const signal of SIGNALS) process.once(signal, onSignal);
  return ignore;
}
