import { setTimeout as delay } from 'node:timers/promises';
import type { KmsError } from '../../dist/errors.js';
import type { KeyState, Provider } from '../../dist/provider.js';
import type { Ledger } from './ledger.js';
import { Witness } from './witness.js';

/** Messages kept per key: what a crash loses shows with the first. */
const MOST_SEALED = 4;
const RETRY_MS = 5;
/** Keys that are not destroyed: more are not made, so that a check of all stays short. */
const MOST_LIVE = 200;
const DESTROYED_SHARE = 0.2;
const LONGEST_PAUSE_MS = 3;

/** Clients that create, encrypt, disable, enable and destroy at once, and rotations beneath them, until the service dies. */
export class Load {
  readonly ledger: Ledger;
  readonly #random: () => number;
  /** Keys with a change under way, so that each has one intent at a time. */
  readonly #busy = new Set<string>();
  /** Failures that are the crash's of something else, which the service outlives: what they did to their key is not known. */
  readonly #tolerated: readonly string[];
  #stopped = false;
  /** Operations that were answered. */
  answered = 0;
  rotations = 0;
  onRotation: () => void = () => {};

  constructor(ledger: Ledger, random: () => number, tolerated: readonly string[] = []) {
    this.ledger = ledger;
    this.#random = random;
    this.#tolerated = tolerated;
  }

  /** From here on failed calls are the crash's. */
  stop(): void {
    this.#stopped = true;
  }

  /** Runs `workers` per provider and one that rotates; resolves after `stop`, rejects with a failure before. */
  async run(providers: readonly Provider[], workers: number): Promise<void> {
    const works = providers.flatMap((kms) => Array.from({ length: workers }, () => this.#work(new Witness(kms, this.ledger))));
    await Promise.all([...works, this.#rotate(providers[0] as Provider)]);
  }

  async #until(step: () => Promise<void>): Promise<void> {
    while (!this.#stopped) {
      try {
        await step();
      } catch (error) {
        if (this.#stopped) return;
        if (!this.#tolerated.includes((error as KmsError).code)) throw error;
        await delay(RETRY_MS);
      }
    }
  }

  #work(witness: Witness): Promise<void> {
    return this.#until(async () => {
      await this.#step(witness, this.#random());
      this.answered += 1;
      await delay(this.#random() * LONGEST_PAUSE_MS);
    });
  }

  async #step(witness: Witness, draw: number): Promise<void> {
    const live = [...this.ledger.keys].filter(([, { states }]) => states[0] !== 'destroyed');
    if (live.length < MOST_LIVE && draw < 0.35) return witness.seal(await witness.create());
    const free = live.filter(([keyId]) => !this.#busy.has(keyId));
    const [keyId, entry] = free[Math.floor(this.#random() * free.length)] ?? [];
    if (keyId === undefined || entry === undefined) return;
    this.#busy.add(keyId);
    if (draw < 0.75) await witness.change(keyId, this.#next(entry.states[0] as KeyState));
    else if (entry.states[0] === 'active' && entry.sealed.length < MOST_SEALED) await witness.seal(keyId);
    else if (entry.states[0] === 'active') await witness.use(keyId);
    // A key of which it is not known how it is stays with whoever did that to it.
    this.#busy.delete(keyId);
  }

  #next(state: KeyState): KeyState {
    if (state === 'active') return 'disabled';
    return this.#random() < DESTROYED_SHARE ? 'destroyed' : 'active';
  }

  #rotate(kms: Provider): Promise<void> {
    return this.#until(async () => {
      const { state } = await kms.rotationStatus();
      if (state === 'failed' || state === 'blocked') throw new Error(`the rotation is ${state}`);
      if (state === 'running') return delay(RETRY_MS);
      await kms.rotateKek();
      this.rotations += 1;
      this.onRotation();
    });
  }
}
