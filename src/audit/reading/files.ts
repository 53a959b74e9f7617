import { type FileHandle, open, readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';

const CURRENT = 'kms-audit.log';
const OLDER = /^kms-audit-([0-9]{16})\.log$/;
/** Names may be given while they are looked at, once per file that has become long. */
const LOOKS = 16;

/** A file of a log, to be read from its beginning. */
export interface OpenedFile {
  path: string;
  handle: FileHandle;
}

/**
 * Opens the files of a log in the order of their lines: those named, and of a directory the ones that have become long before
 * the one that is being written. Throws the system's error for what cannot be opened; a directory without a log is ENOENT.
 */
export async function openLog(paths: readonly string[]): Promise<OpenedFile[]> {
  const opened: OpenedFile[] = [];
  try {
    for (const path of paths) {
      if ((await stat(path)).isDirectory()) opened.push(...(await openDirectory(path)));
      else opened.push({ path, handle: await open(path) });
    }
    return opened;
  } catch (error) {
    await closeLog(opened);
    throw error;
  }
}

export async function closeLog(files: readonly OpenedFile[]): Promise<void> {
  for (const { handle } of files) await handle.close();
}

/** The bytes that all of them have now. */
export async function sizeOf(files: readonly OpenedFile[]): Promise<number> {
  let size = 0;
  for (const { handle } of files) size += (await handle.stat()).size;
  return size;
}

/**
 * The one that is written is opened first and looked at again last: if it is another file by then, it was renamed in between, and
 * the list may lack it.
 */
async function openDirectory(dir: string): Promise<OpenedFile[]> {
  for (let look = 1; ; look++) {
    const current = await openIfThere(join(dir, CURRENT));
    const names = (await readdir(dir)).filter((name) => OLDER.test(name)).sort();
    const again = await inodeOf(join(dir, CURRENT));
    const isSame = again === (current === undefined ? undefined : (await current.stat()).ino);
    if (isSame || look === LOOKS) return await openOlder(dir, names, current);
    await current?.close();
  }
}

async function openOlder(dir: string, names: readonly string[], current: FileHandle | undefined): Promise<OpenedFile[]> {
  const last = current === undefined ? [] : [{ path: join(dir, CURRENT), handle: current }];
  const opened: OpenedFile[] = [];
  try {
    for (const name of names) opened.push({ path: join(dir, name), handle: await open(join(dir, name)) });
    // The error of opening it says what is missing, by name.
    if (opened.length + last.length === 0) last.push({ path: join(dir, CURRENT), handle: await open(join(dir, CURRENT)) });
    return [...opened, ...last];
  } catch (error) {
    await closeLog([...opened, ...last]);
    throw error;
  }
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

async function inodeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).ino;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** How people know a file: its name without the way there. */
export function nameOf({ path }: OpenedFile): string {
  return basename(path);
}

/** Of its first line, as its name says; for the file that is written, of which nothing is said, any number. */
export function firstSeqOf(file: OpenedFile): number {
  return Number(OLDER.exec(nameOf(file))?.[1] ?? Number.POSITIVE_INFINITY);
}
