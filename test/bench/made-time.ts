import type { Clock } from '../../dist/bench/clock.js';

const MS = 1e6;
/** How far a turn goes where nothing is awaited: an event loop that is never idle. */
const TURN_NS = 0.01 * MS;

/** Time that passes only while somebody waits for it. */
export class MadeTime implements Clock {
  private at = 0;
  private readonly waiting: Array<{ due: number; done: () => void }> = [];

  now(): number {
    return this.at;
  }

  async turn(until: number): Promise<void> {
    const next = Math.min(until > this.at ? until : Number.POSITIVE_INFINITY, ...this.waiting.map(({ due }) => due));
    this.at = Number.isFinite(next) ? Math.max(this.at, next) : this.at + TURN_NS;
    for (const { due, done } of this.waiting.splice(0)) {
      if (due <= this.at) done();
      else this.waiting.push({ due, done });
    }
    // What was answered goes on before the next turn, as between two turns of an event loop.
    await new Promise((done) => setImmediate(done));
  }

  alarm(after: number, ring: () => void): () => void {
    const alarm = { due: this.at + after, done: ring };
    this.waiting.push(alarm);
    return () => {
      alarm.done = () => {};
    };
  }

  sleep(ms: number): Promise<void> {
    return new Promise((done) => this.waiting.push({ due: this.at + ms * MS, done }));
  }
}
