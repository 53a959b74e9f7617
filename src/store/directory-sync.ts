import type { FileSystem } from './file-system.js';

interface Waiter {
  resolve(): void;
  reject(error: unknown): void;
}

/**
 * Makes the names of one directory durable. Concurrent callers share an fsync, but only one that began after they
 * called: one already under way may have passed their rename by.
 */
export class DirectorySync {
  readonly #system: FileSystem;
  readonly #fd: number;
  #waiting: Waiter[] = [];
  #running = false;

  constructor(system: FileSystem, fd: number) {
    this.#system = system;
    this.#fd = fd;
  }

  /** Resolves when every change of the directory made before this call is durable. */
  run(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      if (!this.#running) void this.#next();
    });
  }

  async #next(): Promise<void> {
    const batch = this.#waiting;
    this.#waiting = [];
    this.#running = true;
    try {
      await this.#system.fsync(this.#fd);
      for (const waiter of batch) waiter.resolve();
    } catch (error) {
      for (const waiter of batch) waiter.reject(error);
    }
    this.#running = false;
    if (this.#waiting.length > 0) void this.#next();
  }
}
