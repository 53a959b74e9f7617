import { randomBytes } from 'node:crypto';
import type { OpenAuditLog } from '../../audit/audit-log.js';
import { KmsError } from '../../errors.js';
import { MAX_DATABASE_SECRET_BYTES, MAX_OPEN_DATABASES } from '../../limits.js';
import type { DatabaseDescription } from '../../provider.js';
import type { KeyStore } from '../../store/key-store.js';
import { type ArenaOptions, type Handle, Vault } from '../../vault.js';
import { audited } from '../audited.js';
import { ownCopy } from '../calls.js';
import type { Alone } from '../default-key.js';
import { newKekId } from '../keyring-document.js';
import type { Opened } from '../opened.js';
import { Unsound } from '../rewrapping.js';
import type { DatabaseCounts } from './database-counts.js';
import type { DatabaseDocument, WrappedShare } from './database-document.js';
import { DatabaseRing } from './database-ring.js';
import { OpenDatabase } from './open-database.js';
import { Openings } from './openings.js';
import { Rests } from './rests.js';
import { Shares } from './shares.js';

export interface DatabaseSettings {
  arena: ArenaOptions;
  cachedKeys: number;
  /** Uses after which a default key is succeeded. */
  defaultKeySoftUses: number;
  /** That one identity may make; 0 for any number. */
  databasesPerIdentity: number;
  keysPerDatabase: number;
}

/** Names read at once. */
const PAGE = 256;
const NO_SECRET = new Uint8Array(0);

/** What a secret is tried on: the document of its database, or one of nobody's. */
interface Candidate {
  document: DatabaseDocument;
  kek: Handle;
}

/** As it would be read, and its KEK, which is in no keyring. */
interface Decoy {
  databaseId: string;
  bytes: Uint8Array;
  kek: Handle;
}

function wrongSecret(): KmsError {
  return new KmsError('UNAUTHENTICATED', 'the database secret opens nothing here');
}

/** The client-sealed databases of an open store: made, opened by their secrets, and open as long as somebody has them open. */
export class Databases {
  readonly shares: Shares;
  readonly #opened: Opened;
  readonly #store: KeyStore;
  readonly #audit: OpenAuditLog;
  readonly #settings: DatabaseSettings;
  readonly #counts: DatabaseCounts;
  readonly #openings: Openings;
  readonly #rests = new Rests();
  readonly #open = new Map<string, { database: OpenDatabase; openers: number }>();
  readonly #decoy: Decoy;
  /** By identity, how many it has made. */
  #made: Promise<Map<string, number>> | undefined;

  constructor(opened: Opened, store: KeyStore, audit: OpenAuditLog, settings: DatabaseSettings, counts: DatabaseCounts) {
    this.#opened = opened;
    this.#store = store;
    this.#audit = audit;
    this.#settings = settings;
    this.#counts = counts;
    this.shares = new Shares(opened, store.sealed);
    this.#openings = new Openings(audit);
    this.#decoy = this.#newDecoy();
  }

  /** A document like all others, to which no secret leads. */
  #newDecoy(): Decoy {
    const { vault } = this.#opened;
    const kek = vault.generate('kek');
    const [share, recordKey] = [vault.generate('half'), vault.generate('root')];
    const name = { storeId: this.shares.storeId, databaseId: randomBytes(16).toString('hex') };
    const details = { createdAt: new Date().toISOString(), createdBy: 'nobody' };
    const wrapped = this.shares.wrap({ kekId: newKekId(), kekVersion: 1, handle: kek }, name, share, details);
    const document = { ...name, version: 1, restores: 0, check: this.shares.checkOf(name, recordKey), shares: [wrapped] };
    for (const handle of [share, recordKey]) vault.release(handle);
    return { databaseId: name.databaseId, bytes: this.shares.encoded(document), kek };
  }

  /** Makes a database and resolves to its secret, which is kept nowhere: whoever asked for it wipes it. */
  async create(actor: string): Promise<Uint8Array> {
    const { vault } = this.#opened;
    const { half, databaseId, secret } = vault.newDatabaseSecret(this.shares.storeId);
    const event = { type: 'database' as const, actor, detail: { act: 'created' } };
    const make = () => this.#counted(actor, () => this.shares.create(databaseId, half, actor));
    try {
      await audited(this.#audit, event, make, () => ({ detail: { act: 'created', database: databaseId } }));
      return secret;
    } catch (error) {
      secret.fill(0);
      throw error;
    } finally {
      vault.release(half);
    }
  }

  async #counted(actor: string, make: () => Promise<void>): Promise<void> {
    const { databasesPerIdentity } = this.#settings;
    if (databasesPerIdentity === 0) return make();
    this.#made ??= this.#count().catch((error) => {
      this.#made = undefined;
      throw error;
    });
    const made = await this.#made;
    const before = made.get(actor) ?? 0;
    if (before >= databasesPerIdentity) {
      this.#counts.refused('databases_per_identity');
      throw new KmsError('PERMISSION_DENIED', `this identity has made ${databasesPerIdentity} databases, which is its limit`);
    }
    // Before it is made: of two at once, only one may be the last.
    made.set(actor, before + 1);
    try {
      await make();
    } catch (error) {
      made.set(actor, (made.get(actor) ?? 1) - 1);
      throw error;
    }
  }

  async #count(): Promise<Map<string, number>> {
    const made = new Map<string, number>();
    for await (const { createdBy } of this.list()) if (createdBy !== null) made.set(createdBy, (made.get(createdBy) ?? 0) + 1);
    return made;
  }

  async *ids(): AsyncGenerator<string> {
    for (let after: string | undefined; ; ) {
      const page = await this.#store.sealed.list('', after, PAGE);
      yield* page;
      if (page.length < PAGE) return;
      after = page.at(-1);
    }
  }

  /** What is known of each without its secret. */
  async *list(): AsyncGenerator<DatabaseDescription> {
    for await (const databaseId of this.ids()) {
      const known = await this.#readable(databaseId);
      if (known === undefined) continue;
      yield { databaseId, ...known };
    }
  }

  async #readable(databaseId: string): Promise<Omit<DatabaseDescription, 'databaseId'> | undefined> {
    try {
      const known = await this.shares.read(databaseId);
      return known && { ...this.shares.details(known.document), fault: null };
    } catch (error) {
      if (error instanceof Unsound) return { createdAt: null, createdBy: null, fault: error.reason };
      throw error;
    }
  }

  /** Removes a database with all of its keys: what was encrypted under them can never be read again. */
  async drop(databaseId: string, actor: string): Promise<void> {
    const event = { type: 'database' as const, actor, detail: { act: 'dropped', database: databaseId } };
    await audited(this.#audit, event, async () => {
      const { sealed } = this.#store;
      // Of one whose drop a crash cut short the documents are left, which this one removes.
      const isThere =
        (await sealed.read(databaseId)) !== undefined || (await sealed.list(`${databaseId}/`, undefined, 1)).length > 0;
      if (!isThere) throw new KmsError('NOT_FOUND', 'there is no such database');
      await sealed.drop(databaseId);
      this.#open.get(databaseId)?.database.close();
      this.#open.delete(databaseId);
      this.#made = undefined;
    });
  }

  /**
   * The database of a secret, which is wiped; whoever opened it leaves it. UNAUTHENTICATED for a secret that opens none, whatever the
   * reason: where there is no such database another document is tried, which no secret opens, by the same steps.
   */
  open(secret: Uint8Array, actor: string): Promise<OpenDatabase> {
    return this.#counts.opening(() => this.#openBy(secret, actor));
  }

  async #openBy(secret: Uint8Array, actor: string): Promise<OpenDatabase> {
    const { vault } = this.#opened;
    const isLong = secret.length > MAX_DATABASE_SECRET_BYTES;
    // Memory of its own: what is waited for below must not leave a copy that V8 has moved.
    const own = ownCopy(isLong ? NO_SECRET : secret);
    secret.fill(0);
    const { half, databaseId } = vault.readDatabaseSecret(this.shares.storeId, own);
    try {
      const database = await this.#find(half, databaseId);
      this.#openings.note(actor, databaseId);
      return database;
    } catch (error) {
      throw error instanceof Unsound ? damaged(databaseId, error) : error;
    } finally {
      vault.release(half);
    }
  }

  async #find(half: Handle, databaseId: string): Promise<OpenDatabase> {
    const read = () => this.#store.sealed.read(databaseId);
    const bytes = await read();
    try {
      return this.#enter(half, this.#candidate(databaseId, bytes));
    } catch (error) {
      // It may be wrapped under a KEK that another daemon has brought.
      if (!(error instanceof Unsound) || !(await this.#opened.keyring.refresh())) throw error;
    }
    const again = await read();
    return this.#enter(half, this.#candidate(databaseId, again));
  }

  #candidate(databaseId: string, bytes: Uint8Array | undefined): Candidate {
    const { databaseId: id, bytes: read } = bytes === undefined ? this.#decoy : { databaseId, bytes };
    const { document } = this.shares.verified(id, read);
    if (bytes === undefined) return { document, kek: this.#decoy.kek };
    const [{ kekId }] = document.shares as [WrappedShare];
    if (!this.#opened.keyring.holds(kekId)) throw new Unsound('it names a KEK that the keyring does not hold');
    return { document, kek: this.#opened.keyring.kek(kekId) };
  }

  /** In one step: nothing that was found here is old by the time that it is used. */
  #enter(half: Handle, { document, kek }: Candidate): OpenDatabase {
    const { vault } = this.#opened;
    const share = this.#unwrapped(document, kek);
    const recordKey = this.shares.join(vault, document, half, share);
    try {
      if (!this.shares.isRecordKey(document, recordKey)) throw wrongSecret();
      const entry = this.#open.get(document.databaseId) ?? this.#begin(document, half, share);
      entry.openers += 1;
      return entry.database;
    } finally {
      vault.release(recordKey);
      vault.release(share);
    }
  }

  #unwrapped(document: DatabaseDocument, kek: Handle): Handle {
    try {
      return this.shares.unwrapUnder(kek, document, document.shares[0] as WrappedShare);
    } catch (error) {
      const isOther = error instanceof KmsError && error.code === 'AUTHENTICATION_FAILED';
      throw isOther ? new Unsound('its share does not open') : error;
    }
  }

  #begin(document: DatabaseDocument, half: Handle, share: Handle): { database: OpenDatabase; openers: number } {
    if (this.#open.size >= MAX_OPEN_DATABASES) {
      this.#counts.refused('open');
      throw new KmsError('BUSY', `${MAX_OPEN_DATABASES} databases are open`);
    }
    const { databaseId, storeId, restores } = document;
    const { arena, cachedKeys, defaultKeySoftUses, keysPerDatabase } = this.#settings;
    const vault = Vault.open(arena, cachedKeys);
    try {
      const ring = new DatabaseRing(vault, { storeId, databaseId }, this.shares.join(vault, document, half, share));
      const settings = {
        sealed: this.#store.sealed,
        fault: () => this.#store.fault(),
        audit: this.#audit,
        counts: this.#counts,
        defaultKeySoftUses,
        keysPerDatabase,
        alone: this.#alone(databaseId),
        staleAfterMs: this.#store.shared?.staleAfterMs,
      };
      const database = new OpenDatabase(vault, ring, restores, settings, this.#rests.take(databaseId));
      const entry = { database, openers: 0 };
      this.#open.set(databaseId, entry);
      return entry;
    } catch (error) {
      vault.close();
      throw error;
    }
  }

  #alone(databaseId: string): Alone {
    const { shared } = this.#store;
    return (work) => (shared === undefined ? work() : shared.exclusively(`default-key ${databaseId}`, work));
  }

  /** For work that outlasts its opener's stay. Left like one that was opened. */
  stay(database: OpenDatabase): void {
    const entry = this.#open.get(database.databaseId);
    if (entry?.database === database) entry.openers += 1;
  }

  /** When the last opener leaves, its keys are wiped. */
  leave(database: OpenDatabase): void {
    const entry = this.#open.get(database.databaseId);
    if (entry?.database !== database) return;
    entry.openers -= 1;
    if (entry.openers > 0) return;
    this.#open.delete(database.databaseId);
    this.#rests.keep(database.databaseId, database.close());
  }

  get openCount(): number {
    return this.#open.size;
  }

  /** Gives what was reserved and not used back to the records of those that are open. */
  async returnUnused(milliseconds: number): Promise<void> {
    await Promise.all([...this.#open.values()].map(({ database }) => database.ground.cache.returnUnused(milliseconds)));
  }

  /** Closes all of them, with the last lines about them in the log. Resolves when no write of theirs is under way. */
  close(): Promise<unknown> {
    const databases = [...this.#open.values()].map(({ database }) => database);
    this.#open.clear();
    for (const database of databases) database.close();
    this.#openings.turn();
    return Promise.all(databases.map((database) => database.settled()));
  }
}

function damaged(databaseId: string, { reason }: Unsound): KmsError {
  return new KmsError('STORE_UNAVAILABLE', `the document of database ${databaseId} is damaged: ${reason}`);
}
