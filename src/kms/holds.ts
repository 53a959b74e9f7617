/** Who asks that something be put off until they are done. */
export class Holds {
  /** Each resolves when its holder lets go. */
  readonly #holds = new Set<Promise<void>>();

  /** Returns what lets go. */
  take(): () => void {
    let free = () => {};
    const held = new Promise<void>((resolve) => {
      free = resolve;
    });
    this.#holds.add(held);
    return () => {
      this.#holds.delete(held);
      free();
    };
  }

  /** Resolves when nobody holds any more. */
  async none(): Promise<void> {
    while (this.#holds.size > 0) await Promise.all(this.#holds);
  }
}
