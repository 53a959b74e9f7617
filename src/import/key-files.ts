import { createReadStream } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { KmsError } from '../errors.js';
import { MAX_IMPORT_LINE_BYTES } from '../limits.js';
import { errnoOf } from '../store/file-system.js';
import { type Finding, fault, keyOfText } from './original-key.js';

/** As the first generation names the file of a key; not its backups, nor what begins with a dot. */
const KEY_FILE = /^[^.].*\.json$/;

/** The keys of files, of lines in files, and of directories of files. INVALID_ARGUMENT for a path that cannot be read. */
export async function* keysIn(paths: readonly string[]): AsyncGenerator<Finding> {
  for (const path of paths) {
    try {
      if ((await stat(path)).isDirectory()) yield* keysOfDirectory(path);
      else yield* keysOfFile(path);
    } catch (cause) {
      if (cause instanceof KmsError || errnoOf(cause) === '') throw cause;
      throw new KmsError('INVALID_ARGUMENT', `${path} cannot be read: ${errnoOf(cause)}`, { cause });
    }
  }
}

/** A data directory of the first generation has its keys in a directory below. */
async function* keysOfDirectory(path: string): AsyncGenerator<Finding> {
  const below = join(path, 'kms-deks');
  const directory = await stat(below).then(
    (stats) => (stats.isDirectory() ? below : path),
    () => path,
  );
  const names = (await readdir(directory)).filter((name) => KEY_FILE.test(name)).sort();
  if (names.length === 0) throw new KmsError('INVALID_ARGUMENT', `${path} holds no .json file of a key`);
  for (const name of names) yield await keyOfFile(join(directory, name));
}

async function keyOfFile(path: string): Promise<Finding> {
  const stats = await stat(path);
  if (!stats.isFile()) return fault(path, 'not a regular file');
  if (stats.size > MAX_IMPORT_LINE_BYTES) return fault(path, `longer than ${MAX_IMPORT_LINE_BYTES} bytes`);
  return keyOfText(path, await readFile(path, 'utf8'));
}

async function* keysOfFile(path: string): AsyncGenerator<Finding> {
  if (await isOne(path)) {
    yield await keyOfFile(path);
    return;
  }
  for await (const { number, text } of linesOf(path)) {
    const where = `${path}:${number}`;
    yield text === undefined ? fault(where, `longer than ${MAX_IMPORT_LINE_BYTES} bytes`) : keyOfText(where, text);
  }
}

/** Whether it is the file of one key, on however many lines. */
async function isOne(path: string): Promise<boolean> {
  const stats = await stat(path);
  // A pipe is read once, and says nothing of its length.
  if (!stats.isFile() || stats.size > MAX_IMPORT_LINE_BYTES) return false;
  const text = (await readFile(path, 'utf8')).trim();
  if (!text.includes('\n')) return path.endsWith('.json');
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

interface Line {
  /** From 1. */
  number: number;
  /** Undefined for one that is too long. */
  text: string | undefined;
}

/** The lines of a file of any size that are not empty; a line is never held beyond its limit. */
export async function* linesOf(path: string): AsyncGenerator<Line> {
  let number = 1;
  let held = '';
  let isTooLong = false;
  const ended = (): Line => ({ number, text: isTooLong ? undefined : held.trim() });
  for await (const chunk of createReadStream(path, { encoding: 'utf8' })) {
    const parts = String(chunk).split('\n');
    for (const [index, part] of parts.entries()) {
      if (index > 0) {
        if (isTooLong || held.trim() !== '') yield ended();
        number += 1;
        held = '';
        isTooLong = false;
      }
      isTooLong ||= held.length + part.length > MAX_IMPORT_LINE_BYTES;
      held = isTooLong ? '' : held + part;
    }
  }
  if (isTooLong || held.trim() !== '') yield ended();
}
