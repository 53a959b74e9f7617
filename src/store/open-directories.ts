import { MAX_OPEN_DIRECTORIES } from '../limits.js';

interface Opened<T> {
  directory: Promise<T>;
  users: number;
}

/** Directories by name, of which those that were used last stay open, a bounded number: any number of them may exist. */
export class OpenDirectories<T extends { close(): Promise<void> }> {
  readonly #open: (name: string) => Promise<T>;
  /** The one used last is last. */
  readonly #opened = new Map<string, Opened<T>>();

  constructor(open: (name: string) => Promise<T>) {
    this.#open = open;
  }

  /** Opens it unless it is open. */
  async use<R>(name: string, work: (directory: T) => Promise<R>): Promise<R> {
    const opened = this.#opened.get(name) ?? { directory: this.#open(name), users: 0 };
    this.#opened.delete(name);
    this.#opened.set(name, opened);
    opened.users += 1;
    try {
      return await work(await opened.directory);
    } catch (error) {
      // What could not be opened is tried again by whoever wants it next.
      await opened.directory.catch(() => this.#forget(name, opened));
      throw error;
    } finally {
      opened.users -= 1;
      await this.#closeUnused();
    }
  }

  /** After the directory was removed: what comes under its name is another one. */
  async forget(name: string): Promise<void> {
    const opened = this.#opened.get(name);
    if (opened === undefined) return;
    this.#forget(name, opened);
    await (await opened.directory).close();
  }

  async close(): Promise<void> {
    for (const name of [...this.#opened.keys()]) await this.forget(name).catch(() => undefined);
  }

  #forget(name: string, opened: Opened<T>): void {
    if (this.#opened.get(name) === opened) this.#opened.delete(name);
  }

  async #closeUnused(): Promise<void> {
    for (const [name, opened] of this.#opened) {
      if (this.#opened.size <= MAX_OPEN_DIRECTORIES) return;
      if (opened.users > 0) continue;
      this.#opened.delete(name);
      await (await opened.directory).close();
    }
  }
}
