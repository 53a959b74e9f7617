import { setTimeout as sleep } from 'node:timers/promises';
import { FORWARD_CLOSE_MS, FORWARD_MAX_RETRY_MS, FORWARD_RETRY_MS } from '../../limits.js';
import { openSink } from './open-sink.js';
import { LineQueue } from './queue.js';
import { Refused, type Sink } from './sink.js';
import type { ForwardTarget } from './target.js';

export interface ForwardStats {
  /** Lines that wait, those under way included. */
  queued: number;
  /** Lines that the receiver took, or the kernel for it. */
  sent: number;
  /** Lines that it will not get: they are in the file alone. */
  dropped: number;
  /** Why the last attempt failed; null once one has succeeded again. */
  lastError: string | null;
}

/**
 * Gives a copy of each line to one receiver, as well as that goes: the log is the file. `offer` only copies; what does not fit into
 * the queue is counted. It connects when there is something to send, and again, at growing distances, when that broke.
 */
export class Forwarder {
  readonly #open: (signal: AbortSignal) => Promise<Sink>;
  readonly #queue = new LineQueue();
  readonly #ended = new AbortController();
  readonly #closeMs: number;
  #sink: Sink | undefined;
  #running: Promise<void> | undefined;
  #hurry: AbortController | undefined;
  #isClosing = false;
  #sent = 0;
  #dropped = 0;
  #lastError: string | null = null;

  constructor(open: (signal: AbortSignal) => Promise<Sink>, closeMs: number = FORWARD_CLOSE_MS) {
    this.#open = open;
    this.#closeMs = closeMs;
  }

  /** Whole lines, each with its line feed. Never waits and never throws; the bytes may be used again. */
  offer(lines: Uint8Array): void {
    this.#dropped += this.#queue.add(lines);
    if (this.#ended.signal.aborted) this.#dropAll();
    if (!this.#isClosing && this.#queue.length > 0) this.#running ??= this.#run();
  }

  stats(): ForwardStats {
    return { queued: this.#queue.length, sent: this.#sent, dropped: this.#dropped, lastError: this.#lastError };
  }

  /** Gives the receiver a moment for what waits; resolves after it at the latest. What is left then is dropped, and counted. */
  async close(): Promise<void> {
    this.#isClosing = true;
    this.#hurry?.abort();
    const late = setTimeout(() => {
      this.#ended.abort();
      this.#sink?.close();
    }, this.#closeMs);
    await this.#running;
    clearTimeout(late);
    this.#ended.abort();
    this.#sink?.close();
    this.#sink = undefined;
    this.#dropAll();
  }

  #dropAll(): void {
    this.#dropped += this.#queue.length;
    this.#queue.taken(this.#queue.length);
  }

  async #run(): Promise<void> {
    let wait = FORWARD_RETRY_MS;
    // The caller of `offer` is in the middle of its work.
    await Promise.resolve();
    while (this.#queue.length > 0 && !this.#ended.signal.aborted) {
      if (await this.#sendBatch()) wait = FORWARD_RETRY_MS;
      else {
        // Not two that broke together at the same time again.
        await this.#pause(wait * (0.75 + Math.random() / 2));
        wait = Math.min(2 * wait, FORWARD_MAX_RETRY_MS);
      }
    }
    // With the last look at the queue: what comes from here on begins anew.
    this.#running = undefined;
  }

  async #sendBatch(): Promise<boolean> {
    const batch = this.#queue.batch();
    try {
      this.#sink ??= await this.#open(this.#ended.signal);
      const sent = await this.#sink.send(batch);
      this.#queue.taken(sent);
      this.#sent += sent;
      this.#lastError = null;
      return true;
    } catch (error) {
      this.#lastError = error instanceof Error ? error.message : String(error);
      this.#sink?.close();
      this.#sink = undefined;
      if (!(error instanceof Refused)) return false;
      this.#queue.taken(batch.length);
      this.#dropped += batch.length;
      return true;
    }
  }

  /** Shorter once the forwarder is closing: then it is now or never. */
  async #pause(ms: number): Promise<void> {
    const hurry = new AbortController();
    this.#hurry = hurry;
    const signal = AbortSignal.any([hurry.signal, this.#ended.signal]);
    await sleep(this.#isClosing ? FORWARD_RETRY_MS : ms, undefined, { signal }).catch(() => {});
  }
}

/** A forwarder to `target`; `authorities`, in PEM, sign the certificate of a receiver over TLS, those of Node unless given. */
export function openForwarder(target: ForwardTarget, authorities?: Buffer): Forwarder {
  return new Forwarder((signal) => openSink(target, authorities, signal));
}
