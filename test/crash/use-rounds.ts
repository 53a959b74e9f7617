import { setTimeout as delay } from 'node:timers/promises';
import type { KmsClient } from '../../dist/client/kms-client.js';
import { type Child, ChildDaemon, embeddedChild } from './child.js';
import { connectedTo, embeddedOn, type Ground, usesReserved } from './ground.js';

const KEYS = 6;
const CONNECTIONS = 3;
const BURST = 64;
/** A life ends by what was acknowledged in it, not by the clock: a slow machine must get as far. */
const MOST_USES = { daemon: 15_000, embedded: 80_000 };
const LONGEST_AFTER_MS = 10;

/** The keys of which fewer uses stand reserved in their records than were done: their nonce limit would be passed unseen. */
export function underCounted(reserved: Map<string, number>, done: Map<string, number>): string[] {
  return [...done].filter(([keyId, uses]) => !((reserved.get(keyId) ?? -1) >= uses)).map(([keyId]) => keyId);
}

/** Processes that encrypt are killed, over and over on the same keys; what clients had been answered is counted here. */
export class UseRounds {
  readonly done = new Map<string, number>();
  #total = 0;

  private constructor(
    readonly ground: Ground,
    private readonly random: () => number,
  ) {}

  static async begin(ground: Ground, random: () => number): Promise<UseRounds> {
    const rounds = new UseRounds(ground, random);
    const kms = await embeddedOn(ground);
    for (let made = 0; made < KEYS; made += 1) rounds.done.set((await kms.createDekForThread('crash/uses')).keyId, 0);
    await kms.close();
    return rounds;
  }

  get keyIds(): string[] {
    return [...this.done.keys()];
  }

  reserved(): Map<string, number> {
    return usesReserved(this.ground, this.keyIds);
  }

  /** One life that ends with a kill. Throws if a record then counts fewer uses than were acknowledged. */
  async round(): Promise<void> {
    await (this.random() < 0.5 ? this.#daemonLife() : this.#embeddedLife());
    const missed = underCounted(this.reserved(), this.done);
    if (missed.length > 0) throw new Error(`under-counted: ${missed.join(', ')}`);
  }

  #used(keyId: string, count: number): void {
    this.done.set(keyId, (this.done.get(keyId) as number) + count);
    this.#total += count;
  }

  async #until(uses: number, child: Child): Promise<void> {
    const end = this.#total + uses;
    while (this.#total < end && child.process.exitCode === null) await delay(1);
    await delay(this.random() * LONGEST_AFTER_MS);
  }

  /** Mostly one key, so that its blocks grow and are reserved again while others rest. */
  #pick(): string {
    return this.keyIds[Math.floor(this.random() ** 2 * KEYS)] as string;
  }

  async #daemonLife(): Promise<void> {
    const daemon = new ChildDaemon(this.ground);
    let killed = false;
    const connections: KmsClient[] = [];
    const user = async (kms: KmsClient): Promise<void> => {
      while (!killed) await this.#burst(kms, this.#pick());
    };
    try {
      await daemon.ready;
      for (let made = 0; made < CONNECTIONS; made += 1) connections.push(await connectedTo(this.ground));
      const users = connections.map((kms) =>
        user(kms).catch((error) => {
          if (!killed) throw error;
        }),
      );
      await Promise.race([this.#until(this.random() * MOST_USES.daemon, daemon), Promise.all(users)]);
      killed = true;
      await daemon.kill();
      for (const kms of connections) await kms.close();
      await Promise.all(users);
    } finally {
      killed = true;
      await daemon.kill();
      for (const kms of connections) await kms.close();
    }
  }

  /** Single requests and a batch; each answer counts, also when others of its burst are lost with the daemon. */
  async #burst(kms: KmsClient, keyId: string): Promise<void> {
    const message = Buffer.alloc(16);
    const one = () => kms.encryptWithDek(keyId, message).then(() => this.#used(keyId, 1));
    const batch = kms.encryptMany(keyId, Array(BURST).fill(message)).then((items) => {
      this.#used(keyId, items.filter((item) => item instanceof Uint8Array).length);
    });
    const settled = await Promise.allSettled([batch, ...Array.from({ length: BURST }, one)]);
    const lost = settled.find((result) => result.status === 'rejected');
    if (lost !== undefined) throw lost.reason;
  }

  async #embeddedLife(): Promise<void> {
    const child = embeddedChild('uses', this.ground, ...this.keyIds);
    child.onLine = (line) => {
      const [what, keyId = '', count] = line.split(' ');
      if (what === 'used') this.#used(keyId, Number(count));
    };
    await this.#until(1 + this.random() * MOST_USES.embedded, child);
    if (child.process.exitCode !== null) throw new Error(`the process ended by itself: ${child.errors}`);
    await child.kill();
  }
}
