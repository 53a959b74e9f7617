import type { Appended, FileSystem } from '../../dist/store/file-system.js';

/** What `append` does, in the calls of the port that it stands for, so that each can be failed, cut or noted in its place. */
export async function appendedBy(system: FileSystem, fd: number, bytes: Uint8Array, path: string): Promise<Appended> {
  let written = 0;
  try {
    while (written < bytes.length) written += await system.write(fd, bytes, written);
    await system.fsync(fd);
  } catch (error) {
    return { written, error: error as NodeJS.ErrnoException, isInPlace: false };
  }
  return { written, isInPlace: await isAt(system, fd, path) };
}

async function isAt(system: FileSystem, fd: number, path: string): Promise<boolean> {
  try {
    return (await system.fstat(fd)).ino === (await system.lstat(path)).ino;
  } catch {
    return false;
  }
}
