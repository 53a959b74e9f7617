import type { Denial } from '../denials.js';
import type { Tidings } from './crossing.js';

/**
 * Gathers what peers can bring about at will, and sends it when the last of it has been heard: however often it happens, one
 * message is under way. What is gathered is bounded by the identities of this thread's connections.
 */
export class Gathering {
  private denials = new Map<string, { denial: Denial; times: number }>();
  private overRate = new Map<string, number>();
  private hasRung = false;
  private isUnheard = false;
  private scheduled: NodeJS.Immediate | undefined;

  constructor(private readonly send: (tidings: Tidings) => void) {}

  denied(denial: Denial, times: number): void {
    const key = `${denial.outcome} ${denial.operation} ${denial.actor}`;
    const known = this.denials.get(key);
    if (known === undefined) this.denials.set(key, { denial, times });
    else known.times += times;
    this.sendSoon();
  }

  overRateBy(actor: string, requests: number): void {
    this.overRate.set(actor, (this.overRate.get(actor) ?? 0) + requests);
    this.sendSoon();
  }

  rang(): void {
    this.hasRung = true;
    this.sendSoon();
  }

  /** The last one was heard. */
  heard(): void {
    this.isUnheard = false;
    if (this.denials.size > 0 || this.overRate.size > 0 || this.hasRung) this.sendSoon();
  }

  /** At the end of the thread nothing waits to be heard. */
  last(): void {
    this.isUnheard = false;
    this.now();
  }

  private sendSoon(): void {
    if (!this.isUnheard) this.scheduled ??= setImmediate(() => this.now());
  }

  private now(): void {
    clearImmediate(this.scheduled);
    this.scheduled = undefined;
    if (this.isUnheard) return;
    const denials = [...this.denials.values()];
    const overRate = [...this.overRate].map(([actor, requests]) => ({ actor, requests }));
    const { hasRung } = this;
    this.denials = new Map();
    this.overRate = new Map();
    this.hasRung = false;
    this.isUnheard = true;
    this.send({ denials, overRate, hasRung });
  }
}
