import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { KmsClient } from '../../dist/client/kms-client.js';
import { createEmbeddedKms } from '../../dist/create.js';
import { ChildDaemon } from '../crash/child.js';
import { connectedTo, type Ground, newGround, removeGround } from '../crash/ground.js';
import { audited, Ledger } from '../crash/ledger.js';
import { Load } from '../crash/load.js';
import { settledRotation } from '../crash/settled-rotation.js';
import { Witness } from '../crash/witness.js';
import type { PostgresServer } from '../postgres-server.js';

const CONNECTIONS = 2;
const WORKERS = 4;
const LONGEST_LIFE_MS = 1_500;
const LONGEST_OUTAGE_MS = 1_500;
const NAMES = ['a', 'b'] as const;
/** Longer than a machine stalls: whoever is alive is heard. */
const STALE_AFTER_MS = 6_000;
/** Another daemon leads already, or the database is away for a moment. */
const OF_OTHERS = ['CONFLICT', 'STORE_UNAVAILABLE'];

export interface SharedFigures {
  kills: number;
  /** Kills of the one that led a rotation, which the other one finished. */
  takenOver: number;
  restarts: number;
  answered: number;
  rotations: number;
}

/** A process that serves, and who works with it. */
class Member {
  readonly daemon: ChildDaemon;
  readonly load: Load;
  readonly clients: KmsClient[] = [];
  readonly #ground: Ground;
  #working: Promise<void> = Promise.resolve();

  constructor(ground: Ground, flags: readonly string[], load: Load) {
    this.#ground = ground;
    this.load = load;
    this.daemon = new ChildDaemon(ground, [], [], flags);
  }

  async connect(): Promise<KmsClient> {
    const client = await connectedTo(this.#ground);
    this.clients.push(client);
    return client;
  }

  async work(): Promise<void> {
    await this.daemon.ready;
    for (let i = 0; i < CONNECTIONS; i += 1) await this.connect();
    this.#working = this.load.run(this.clients, WORKERS);
    // Told where it is waited for.
    this.#working.catch(() => {});
  }

  /** Rejects with what went wrong under the load. */
  async rest(): Promise<void> {
    this.load.stop();
    await this.#working;
  }

  async kill(): Promise<void> {
    this.load.stop();
    await this.daemon.kill();
    await this.#close();
  }

  async stop(): Promise<void> {
    await this.#close();
    await this.daemon.stop();
  }

  async #close(): Promise<void> {
    for (const client of this.clients.splice(0)) await client.close();
  }
}

/** Two daemons on one database under load: one of them is killed, or the database, over and over. Every promise must stand. */
export class TwoDaemons {
  readonly figures: SharedFigures = { kills: 0, takenOver: 0, restarts: 0, answered: 0, rotations: 0 };
  readonly #server: PostgresServer;
  readonly #schema: string;
  readonly #random: () => number;
  readonly #grounds = new Map<string, Ground>();
  readonly #ledgers = new Map<string, Ledger>(NAMES.map((name) => [name, new Ledger()]));
  readonly #urlFile: string;

  constructor(server: PostgresServer, schema: string, random: () => number) {
    this.#server = server;
    this.#schema = schema;
    this.#random = random;
    const first = newGround();
    for (const name of [...NAMES, 'auditor']) {
      const ground = name === 'a' ? first : newGround();
      if (ground !== first) copyFileSync(first.keyFile, ground.keyFile);
      this.#grounds.set(name, ground);
    }
    this.#urlFile = join(first.directory, 'database-url');
    writeFileSync(this.#urlFile, `${server.url('postgres')}\n`, { mode: 0o600 });
  }

  ground(name: string): Ground {
    return this.#grounds.get(name) as Ground;
  }

  /** Of `serve`. */
  flags(staleAfterMs = STALE_AFTER_MS): string[] {
    const place = ['--postgres-url-file', this.#urlFile, '--postgres-schema', this.#schema];
    return ['--store', 'postgres', ...place, '--postgres-stale-after-ms', String(staleAfterMs)];
  }

  async begin(keys: number): Promise<void> {
    const kms = await this.#embedded();
    for (const ledger of this.#ledgers.values()) await new Witness(kms, ledger).created(keys);
    await kms.close();
  }

  #embedded() {
    const { dataDir, keyFile } = this.ground('auditor');
    const store = { kind: 'postgres', urlFile: this.#urlFile, schema: this.#schema, staleAfterMs: STALE_AFTER_MS } as const;
    return createEmbeddedKms({ dataDir, masterKeyFile: keyFile, store });
  }

  /** None of them outlives what fails. */
  async #withMembers(round: (members: Member[]) => Promise<void>): Promise<void> {
    const members = NAMES.map((name) => {
      return new Member(this.ground(name), this.flags(), new Load(this.#ledgers.get(name)!, this.#random, OF_OTHERS));
    });
    try {
      for (const member of members) await member.work();
      await round(members);
    } finally {
      for (const member of members) await member.kill();
    }
  }

  /** One of the two is killed while both work and rotate; the other one finishes what it has begun, serving all the while. */
  kill(): Promise<void> {
    return this.#withMembers((members) => this.#kill(members));
  }

  async #kill(members: Member[]): Promise<void> {
    await delay(this.#random() * LONGEST_LIFE_MS);
    const [victim, survivor] = this.#random() < 0.5 ? members : [...members].reverse();
    await victim!.kill();
    this.figures.kills += 1;
    const probe = await survivor!.connect();
    if ((await probe.rotationStatus()).state === 'running') this.figures.takenOver += 1;
    await delay(LONGEST_LIFE_MS / 3);
    await survivor!.rest();
    await this.#settled(survivor!);
    this.#count(members);
  }

  /** The database is stopped as by a crash under both, and comes back. */
  restart(): Promise<void> {
    return this.#withMembers((members) => this.#restart(members));
  }

  async #restart(members: Member[]): Promise<void> {
    await delay(this.#random() * LONGEST_LIFE_MS);
    this.#server.end('immediate');
    await delay(this.#random() * LONGEST_OUTAGE_MS);
    this.#server.begin();
    this.figures.restarts += 1;
    const before = members.map(({ load }) => load.answered);
    // Whoever does not come back is told by the time-out of the test.
    while (members.some(({ load }, i) => load.answered < before[i]! + 10)) await delay(20);
    for (const member of members) await member.rest();
    await this.#settled(...members);
    this.#count(members);
  }

  #count(members: readonly Member[]): void {
    for (const { load } of members) {
      this.figures.answered += load.answered;
      this.figures.rotations += load.rotations;
    }
  }

  /** Those who are left have finished the rotation, and everything is as was promised, through them and from a start of its own. */
  async #settled(...members: Member[]): Promise<void> {
    for (const member of members) {
      await settledRotation(member.clients[0]!);
      await this.#checkOpens(member.clients[0]!);
    }
    for (const member of members) await member.stop();
    const kms = await this.#embedded();
    try {
      const seen = await audited(kms, this.#both());
      for (const ledger of this.#ledgers.values()) ledger.tell(this.#ownOf(ledger, seen));
    } finally {
      await kms.close();
    }
  }

  #both(): Ledger {
    const all = [...this.#ledgers.values()];
    const both = new Ledger(new Map(all.flatMap(({ keys }) => [...keys])));
    for (const { creating } of all) for (let i = 0; i < creating; i += 1) both.began();
    return both;
  }

  /** Keys that nobody was told of are the first one's from here on. */
  #ownOf(ledger: Ledger, seen: Ledger): Ledger {
    const [first, ...others] = [...this.#ledgers.values()];
    const isOthers = (keyId: string) => others.some(({ keys }) => keys.has(keyId));
    const isOwn = (keyId: string) => (ledger === first ? !isOthers(keyId) : ledger.keys.has(keyId));
    return new Ledger(new Map([...seen.keys].filter(([keyId]) => isOwn(keyId))));
  }

  async #checkOpens(kms: KmsClient): Promise<void> {
    for (const { keys } of this.#ledgers.values()) {
      for (const [keyId, { states, sealed }] of keys) {
        if (states.length > 1 || states[0] !== 'active') continue;
        for (const { message, ciphertext } of sealed) {
          if (!message.equals(await kms.decryptWithDek(keyId, ciphertext)))
            throw new Error(`${keyId} decrypts to something else`);
        }
      }
    }
  }

  end(): void {
    for (const ground of this.#grounds.values()) removeGround(ground);
  }
}
