import * as fs from 'node:fs';
import { type FileSystem, nodeFileSystem } from '../../dist/store/file-system.js';
import { appendedBy } from './appended.js';

/**
 * The real file system with every asynchronous call held back until `step` picks it; it is then done at once. So the
 * order of calls is the schedule's alone, and a failing one can be repeated.
 */
export class ScheduledFileSystem {
  readonly #held: Array<() => void> = [];

  get held(): number {
    return this.#held.length;
  }

  /** Does one held call, chosen by `pick`, and lets what waits for it run on to its next call. */
  async step(pick: number): Promise<void> {
    this.#held.splice(pick % this.#held.length, 1)[0]?.();
    await new Promise(setImmediate);
  }

  #hold<T>(call: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#held.push(() => {
        try {
          resolve(call());
        } catch (error) {
          reject(error);
        }
      });
    });
  }

  readonly fileSystem: FileSystem = {
    ...nodeFileSystem,
    open: (path, flags, mode) => this.#hold(() => nodeFileSystem.openSync(path, flags, mode)),
    write: (fd, bytes, offset) => this.#hold(() => nodeFileSystem.writeSync(fd, bytes, offset)),
    append: (fd, bytes, path) => appendedBy(this.fileSystem, fd, bytes, path),
    read: (fd, into, offset) => this.#hold(() => nodeFileSystem.readSync(fd, into, offset)),
    fstat: (fd) => this.#hold(() => nodeFileSystem.fstatSync(fd)),
    close: (fd) => this.#hold(() => nodeFileSystem.closeSync(fd)),
    link: (from, to) => this.#hold(() => fs.linkSync(from, to)),
    unlink: (path) => this.#hold(() => fs.unlinkSync(path)),
    // What an fsync does to a disk is no part of this; its place in the order is.
    fsync: () => this.#hold(() => {}),
    fsyncSync: () => {},
  };
}
