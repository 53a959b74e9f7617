import { constants } from 'node:os';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** A signal that asks a command to end. It is told what it leaves behind; a second signal ends it as if nobody listened. */
export class Interruption {
  readonly #asked = new AbortController();
  #signal: (typeof SIGNALS)[number] | undefined;
  readonly #note = (signal: NodeJS.Signals): void => {
    this.#signal = signal as (typeof SIGNALS)[number];
    this.stop();
    this.#asked.abort();
  };

  constructor() {
    for (const signal of SIGNALS) process.once(signal, this.#note);
  }

  get isThere(): boolean {
    return this.#signal !== undefined;
  }

  /** As a shell has it for a command that a signal has ended: 130 of Ctrl-C. */
  get exit(): number {
    return this.#signal === undefined ? 0 : 128 + constants.signals[this.#signal];
  }

  /** Waits for something that rejects when it is aborted, or for the signal. */
  async unlessThere(wait: (signal: AbortSignal) => Promise<void>): Promise<void> {
    await wait(this.#asked.signal).catch((error) => {
      if (!this.isThere) throw error;
    });
  }

  stop(): void {
    for (const signal of SIGNALS) process.off(signal, this.#note);
  }
}
