import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { EXIT_FAILED, Failure, type FailureCode } from './failure.js';

/** Where a child that is given a key finds it. */
export const KEY_FD = 3;

interface Told {
  error?: { code: FailureCode; message: string; hint?: string };
}

/**
 * Runs a command of this program that reads a key from a pipe, natively, so that the process with the store in it never has the key
 * in JavaScript, and this one, which has, never has the store. `key` is wiped. Resolves to the command's JSON document.
 */
export async function withKeyChild(args: readonly string[], key: Uint8Array): Promise<Record<string, unknown>> {
  const child = started([...args, '--json'], 'pipe', key);
  const [stdout, stderr] = ['', ''].map((_, index) => collect(child.stdio[index + 1] as NodeJS.ReadableStream));
  const code = await ended(child);
  const [said, complaint] = [await (stdout as Promise<string>), await (stderr as Promise<string>)];
  if (code === 0) return JSON.parse(said) as Record<string, unknown>;
  throw failureIn(complaint);
}

/** The same for a command that speaks for itself; resolves to its exit code. */
export async function leftToKeyChild(args: readonly string[], key: Uint8Array): Promise<number> {
  return (await ended(started(args, 'inherit', key))) ?? EXIT_FAILED;
}

function ended(child: ChildProcess): Promise<number | null> {
  return new Promise((done, fail) => child.once('error', fail).once('close', done));
}

function started(args: readonly string[], output: 'pipe' | 'inherit', key: Uint8Array): ChildProcess {
  const stdio: StdioOptions = ['ignore', output, output, 'pipe'];
  const child = spawn(process.execPath, [process.argv[1] as string, ...args], { stdio });
  const text = Buffer.alloc(2 * key.length);
  for (const [at, byte] of key.entries()) {
    text[2 * at] = hexDigit(byte >> 4);
    text[2 * at + 1] = hexDigit(byte & 15);
  }
  key.fill(0);
  const pipe = child.stdio[KEY_FD] as NodeJS.WritableStream;
  // A child that ended before it read the key says itself why.
  pipe.on('error', () => {});
  pipe.end(text, () => text.fill(0));
  return child;
}

function hexDigit(value: number): number {
  return value < 10 ? 0x30 + value : 0x57 + value;
}

async function collect(stream: NodeJS.ReadableStream): Promise<string> {
  let text = '';
  for await (const chunk of stream) text += String(chunk);
  return text;
}

/** The child's own failure, so that it reads as if there had been one process. */
function failureIn(complaint: string): Failure {
  const last = complaint.trimEnd().split('\n').at(-1) ?? '';
  try {
    const { error } = JSON.parse(last) as Told;
    if (error !== undefined) return new Failure(error.code, error.message, error.hint);
  } catch {
    // It was killed, or could not even begin.
  }
  return new Failure('INTERNAL', `the process that opens the store ended: ${last}`);
}
