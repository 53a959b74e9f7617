import { createReadStream, fstatSync, type Stats } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { Provider } from '../../provider.js';
import { Failure, failureOf, fileFailure, isSystemError } from '../failure.js';
import { openFile, type Sealer, sealerUnder, sealFile } from '../files.js';
import { openInside } from '../inside.js';
import type { Output } from '../output.js';
import { counted, type Progress, progressOf } from '../progress.js';
import type { Settings } from '../settings.js';
import { openTarget, type Target } from '../target.js';

export interface CryptOptions {
  /** A path; `-` or undefined is standard input. */
  file: string | undefined;
  /** A path; `-` or undefined is standard output. */
  output: string | undefined;
  /** Encrypts under this key instead of the default one. */
  key?: string | undefined;
}

/** Reads in large pieces: each is one system call, and a chunk is put together from few of them. */
const READ_BYTES = 1024 * 1024;

export async function encryptCommand(options: CryptOptions, settings: Settings, output: Output): Promise<void> {
  const toStdout = options.output === undefined || options.output === '-';
  if (toStdout && process.stdout.isTTY) {
    throw new Failure('USAGE', 'ciphertext is not written to a terminal', 'name a file with -o FILE, or pipe it');
  }
  await transfer('encrypting', options, 0o666, settings, output, (source, kms) => {
    const sealer: Sealer = options.key === undefined ? kms : sealerUnder(options.key, kms);
    return sealFile(source, sealer);
  });
}

export async function decryptCommand(options: CryptOptions, settings: Settings, output: Output): Promise<void> {
  // Plaintext is for its owner alone until somebody decides otherwise.
  await transfer('decrypting', options, 0o600, settings, output, openFile);
}

type Transform = (source: AsyncIterable<Uint8Array>, kms: Provider) => AsyncIterable<Uint8Array>;

async function transfer(
  verb: string,
  options: CryptOptions,
  mode: number,
  settings: Settings,
  output: Output,
  transform: Transform,
): Promise<void> {
  const input = await openInput(options.file);
  try {
    const { kms, end } = await openInside(settings, output);
    try {
      const target = await openTarget(options.output, input.stats, mode);
      const progress = progressOf(verb, input.stats.isFile() ? input.stats.size : undefined, output.json);
      await pump(transform(counted(input.bytes, progress), kms), target, progress);
    } finally {
      await end();
    }
  } finally {
    await input.close();
  }
}

async function pump(chunks: AsyncIterable<Uint8Array>, target: Target, progress: Progress): Promise<void> {
  try {
    for await (const chunk of chunks) await target.write(chunk);
    await target.commit();
  } catch (error) {
    const partial = await target.discard();
    const failure = failureOf(error);
    throw partial ? failure.with('the output is not complete: do not use it') : failure;
  } finally {
    progress.stop();
  }
}

interface Input {
  bytes: AsyncIterable<Uint8Array>;
  stats: Stats;
  close(): Promise<void>;
}

async function openInput(path: string | undefined): Promise<Input> {
  if (path === undefined || path === '-') {
    // A pipe would otherwise keep the process after a failure.
    const close = async () => void process.stdin.destroy();
    return { bytes: readable('standard input', process.stdin), stats: fstatSync(0), close };
  }
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (error) {
    throw fileFailure('read', path, error);
  }
  const stats = await file.stat();
  const stream = createReadStream(path, { fd: file, highWaterMark: READ_BYTES, autoClose: false });
  return { bytes: readable(path, stream), stats, close: () => file.close() };
}

/** The stream's bytes, its errors by the name of what is read. */
async function* readable(name: string, stream: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* stream;
  } catch (error) {
    throw isSystemError(error) ? fileFailure('read', name, error) : error;
  }
}
