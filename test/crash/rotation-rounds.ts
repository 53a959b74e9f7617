import { setTimeout as delay } from 'node:timers/promises';
import type { KmsClient } from '../../dist/client/kms-client.js';
import { checkLines, logsIn } from './audit-lines.js';
import { type Child, ChildDaemon, embeddedChild } from './child.js';
import { connectedTo, embeddedOn, type Ground, leftoversOn } from './ground.js';
import { audited, Ledger } from './ledger.js';
import { Load } from './load.js';
import { settledRotation } from './settled-rotation.js';
import { hear } from './told-ledger.js';
import { Witness } from './witness.js';

const CONNECTIONS = 3;
const WORKERS = 4;
const LONGEST_LIFE_MS = 250;
const LONGEST_START_MS = 300;
const EARLY_SHARE = 1 / 8;
/** Operations that are answered in every life that is not cut off early. */
const LEAST_ANSWERED = 8;

export interface RotationFigures {
  kills: number;
  /** Before the process served: in a start, which may be resuming a rotation. */
  early: number;
  /** Kills that left a rotation to be finished. */
  unfinished: number;
  /** Operations of clients that were answered. */
  answered: number;
  /** Lines of the audit log that answers had promised, and that were there. */
  lines: number;
}

/** How a life ends: by our hand after a while, or at a system call of its own. */
export type Killer = readonly string[];

function hasEnded({ process: { exitCode, signalCode } }: Child): boolean {
  return exitCode !== null || signalCode !== null;
}

/**
 * Processes that rotate under load are killed, over and over on one data directory. After each kill a start must open the store,
 * the rotation finish by itself, and every promise stand.
 */
export class RotationRounds {
  readonly figures: RotationFigures = { kills: 0, early: 0, unfinished: 0, answered: 0, lines: 0 };
  readonly #ground: Ground;
  readonly #random: () => number;
  readonly #ledger = new Ledger();

  private constructor(ground: Ground, random: () => number) {
    this.#ground = ground;
    this.#random = random;
  }

  static async begin(ground: Ground, keys: number, random: () => number): Promise<RotationRounds> {
    const rounds = new RotationRounds(ground, random);
    const kms = await embeddedOn(ground);
    await new Witness(kms, rounds.#ledger).created(keys);
    await kms.close();
    return rounds;
  }

  /** A daemon with several clients, killed at a random instant, or by `killer` at a call of its own. */
  async daemon(killer?: Killer): Promise<void> {
    const daemon = new ChildDaemon(this.#ground, [], killer);
    const load = new Load(this.#ledger, this.#random);
    const connections: KmsClient[] = [];
    try {
      if (killer === undefined && this.#isEarly()) await delay(this.#random() * LONGEST_START_MS);
      else if (await this.#connected(daemon, connections)) await this.#worked(load, daemon, connections, killer);
    } finally {
      load.stop();
      await daemon.kill();
      for (const kms of connections) await kms.close();
    }
    this.figures.answered += load.answered;
    await this.#recover();
  }

  async embedded(): Promise<void> {
    const child = embeddedChild('load', this.#ground);
    let rotations = 0;
    child.onLine = (line) => {
      if (hear(this.#ledger, line)) this.figures.answered += 1;
      else rotations += 1;
    };
    const enough = this.figures.answered + LEAST_ANSWERED;
    if (this.#isEarly()) await delay(this.#random() * LONGEST_START_MS);
    else {
      while ((rotations < 2 || this.figures.answered < enough) && !hasEnded(child)) await delay(1);
      await delay(this.#random() * LONGEST_LIFE_MS);
    }
    if (hasEnded(child)) throw new Error(`the process ended by itself: ${child.errors}`);
    await child.kill();
    await this.#recover();
  }

  #isEarly(): boolean {
    // The first life is a busy one: what is to be found afterwards does not hang on chance.
    const early = this.#random() < EARLY_SHARE && this.figures.answered > 0;
    if (early) this.figures.early += 1;
    return early;
  }

  /** False if it was killed before. */
  async #connected(daemon: ChildDaemon, connections: KmsClient[]): Promise<boolean> {
    try {
      await daemon.ready;
      for (let made = 0; made < CONNECTIONS; made += 1) connections.push(await connectedTo(this.#ground));
      return true;
    } catch (error) {
      await daemon.ended;
      if (daemon.process.signalCode !== 'SIGKILL') throw error;
      this.figures.early += 1;
      return false;
    }
  }

  async #worked(load: Load, daemon: Child, connections: KmsClient[], killer?: Killer): Promise<void> {
    let failure: unknown;
    const working = load.run(connections, WORKERS).catch((error) => {
      failure = error;
    });
    // Until it died of its own call, or got through two rotations without making that one.
    const isBusy = () => load.rotations > 0 && load.answered >= LEAST_ANSWERED;
    const isOver = () => failure !== undefined || (killer === undefined ? isBusy() : load.rotations > 2);
    while (!isOver() && !hasEnded(daemon)) await delay(1);
    if (killer === undefined) await delay(this.#random() * LONGEST_LIFE_MS);
    load.stop();
    const wasKilled = await daemon.kill().then(() => failure === undefined || killer !== undefined);
    for (const kms of connections) await kms.close();
    await working;
    if (!wasKilled) throw failure;
  }

  /** Opens the store as the process after the crash. */
  async #recover(): Promise<void> {
    this.figures.kills += 1;
    const kms = await embeddedOn(this.#ground);
    try {
      if ((await kms.rotationStatus()).state === 'running') this.figures.unfinished += 1;
      await settledRotation(kms);
      this.#ledger.tell(await audited(kms, this.#ledger));
      checkLines(logsIn(this.#ground.dataDir), this.#ledger);
      this.figures.lines = [...this.#ledger.lines.values()].reduce((sum, times) => sum + times, 0);
      const leftovers = leftoversOn(this.#ground);
      if (leftovers.length > 0) throw new Error(`a start left temporary files: ${leftovers.join(', ')}`);
    } finally {
      await kms.close();
    }
  }
}
