import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Provider } from '../../dist/provider.js';
import { type Child, ChildDaemon, embeddedChild } from './child.js';
import { connectedTo, embeddedOn, type Ground, keyIdsOn, leftoversOn, recordFile, verifyAll } from './ground.js';

export type Victim = 'daemon' | 'embedded';

interface Sealed {
  message: Buffer;
  ciphertext: Buffer;
}

export interface CreateFigures {
  acknowledged: number;
  /** Keys that had encrypted something before the kill. */
  sealed: number;
  /** Records that nobody was told of, and temporary files, that kills left: the rounds did meet half-done creates. */
  untold: number;
  leftovers: number;
  /** Kills before the process was ready. */
  early: number;
}

const CONNECTIONS = 3;
const MAKERS_EACH = 8;
const LONGEST_LIFE_MS = 60;
const LONGEST_START_MS = 120;
const EARLY_SHARE = 1 / 8;
/** Keys of a process that counts as busy. */
const MANY = 16;

/**
 * A process that creates keys is killed and started again, over and over on one data directory. What it acknowledged must
 * be there afterwards and decrypt; nothing on the disk may be half a record. Throws at the first round that breaks this.
 */
export class CreateRounds {
  readonly figures: CreateFigures = { acknowledged: 0, sealed: 0, untold: 0, leftovers: 0, early: 0 };
  readonly #acknowledged = new Map<string, Sealed | undefined>();
  readonly #seen = new Set<string>();
  #unproven: string[] = [];

  constructor(
    private readonly ground: Ground,
    private readonly victim: Victim,
    private readonly random: () => number,
  ) {}

  /** One life and one kill; `whole` then opens every record there is. */
  async round(whole: boolean): Promise<void> {
    await (this.victim === 'daemon' ? this.#daemonLife() : this.#embeddedLife());
    this.#readNewFiles();
    if (this.victim === 'embedded' || whole) await this.#recover(whole);
  }

  #acknowledge(keyId: string): void {
    this.#acknowledged.set(keyId, undefined);
    this.#unproven.push(keyId);
    this.figures.acknowledged += 1;
  }

  #sealed(keyId: string, message: Buffer, ciphertext: Buffer): void {
    this.#acknowledged.set(keyId, { message, ciphertext });
    this.figures.sealed += 1;
  }

  #isEarly(): boolean {
    // The first life is a busy one: what is to be found afterwards does not hang on chance.
    const early = this.random() < EARLY_SHARE && this.figures.sealed > 0;
    if (early) this.figures.early += 1;
    return early;
  }

  async #daemonLife(): Promise<void> {
    const daemon = new ChildDaemon(this.ground);
    try {
      if (this.#isEarly()) return await delay(this.random() * LONGEST_START_MS);
      await daemon.ready;
      this.#refuseLeftovers();
      await this.#createUntilKilled(daemon);
    } finally {
      await daemon.kill();
    }
  }

  /** From the first acknowledgement on, so that a slow machine kills a busy process too. */
  async #busyLife(child: Child): Promise<void> {
    const what = this.random() < 0.5 ? 'acknowledged' : 'sealed';
    const before = this.figures[what];
    const isBusy = () => this.figures[what] > before && this.figures.acknowledged >= MANY && this.figures.sealed > 0;
    while (!isBusy() && child.process.exitCode === null) await delay(1);
    await delay(this.random() * LONGEST_LIFE_MS);
  }

  async #createUntilKilled(daemon: ChildDaemon): Promise<void> {
    let killed = false;
    const connections = await Promise.all(Array.from({ length: CONNECTIONS }, () => connectedTo(this.ground)));
    const maker = async (kms: Provider): Promise<void> => {
      while (!killed) {
        const { keyId } = await kms.createDekForThread('crash/daemon');
        this.#acknowledge(keyId);
        const message = randomBytes(24);
        const { ciphertext } = await kms.encryptWithDek(keyId, message, Buffer.from(keyId));
        this.#sealed(keyId, message, Buffer.from(ciphertext));
      }
    };
    await this.#prove(connections[0]!);
    const refused = (error: unknown) => {
      if (!killed) throw error;
    };
    const makers = connections.flatMap((kms) => Array.from({ length: MAKERS_EACH }, () => maker(kms).catch(refused)));
    const life = this.#busyLife(daemon).then(() => {
      killed = true;
      return daemon.kill();
    });
    try {
      await Promise.race([life, Promise.all(makers)]);
      await life;
    } finally {
      killed = true;
      for (const kms of connections) await kms.close();
    }
    await Promise.all(makers);
  }

  async #embeddedLife(): Promise<void> {
    const child = embeddedChild('creates', this.ground);
    child.onLine = (line) => {
      const [what, keyId = '', message = '', ciphertext = ''] = line.split(' ');
      if (what === 'created') this.#acknowledge(keyId);
      if (what === 'sealed') this.#sealed(keyId, Buffer.from(message, 'hex'), Buffer.from(ciphertext, 'hex'));
    };
    if (this.#isEarly()) await delay(this.random() * LONGEST_START_MS);
    else await this.#busyLife(child);
    if (child.process.exitCode !== null) throw new Error(`the process ended by itself: ${child.errors}`);
    await child.kill();
  }

  /** What lies on the disk before anybody mends it: every file under a final name is a whole document. */
  #readNewFiles(): void {
    if (this.#acknowledged.size === 0) return;
    this.figures.leftovers += leftoversOn(this.ground).length;
    const ids = keyIdsOn(this.ground);
    for (const keyId of ids) {
      if (this.#seen.has(keyId)) continue;
      recordFile(this.ground, keyId);
      this.#seen.add(keyId);
      if (!this.#acknowledged.has(keyId)) this.figures.untold += 1;
    }
  }

  #refuseLeftovers(): void {
    const leftovers = leftoversOn(this.ground);
    if (leftovers.length > 0) throw new Error(`a start left temporary files: ${leftovers.join(', ')}`);
  }

  /** Opens the store in this process, as the process after the crash. */
  async #recover(whole: boolean): Promise<void> {
    const kms = await embeddedOn(this.ground);
    try {
      this.#refuseLeftovers();
      await this.#prove(kms);
      if (!whole) return;
      const records = await verifyAll(kms);
      if (records < this.#acknowledged.size) throw new Error(`${this.#acknowledged.size} keys acknowledged, ${records} there`);
      this.#unproven = [...this.#acknowledged.keys()];
      await this.#prove(kms);
    } finally {
      await kms.close();
    }
  }

  /** Every key acknowledged since the last proof decrypts what it encrypted before the kill, and serves on. */
  async #prove(kms: Provider): Promise<void> {
    const keyIds = this.#unproven;
    this.#unproven = [];
    for (let at = 0; at < keyIds.length; at += 256) {
      await Promise.all(keyIds.slice(at, at + 256).map((keyId) => this.#proveKey(kms, keyId)));
    }
  }

  async #proveKey(kms: Provider, keyId: string): Promise<void> {
    const before = this.#acknowledged.get(keyId);
    if (before !== undefined) {
      const opened = await kms.decryptWithDek(keyId, before.ciphertext, Buffer.from(keyId));
      if (!before.message.equals(opened)) throw new Error(`${keyId} decrypts to something else`);
    }
    const message = randomBytes(24);
    const { ciphertext } = await kms.encryptWithDek(keyId, message);
    if (!message.equals(await kms.decryptWithDek(keyId, ciphertext))) throw new Error(`${keyId} does not serve`);
  }
}
