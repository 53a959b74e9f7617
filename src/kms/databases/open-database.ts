import type { OpenAuditLog } from '../../audit/audit-log.js';
import { KmsError } from '../../errors.js';
import { binding } from '../../native.js';
import type { CreatedKey } from '../../provider.js';
import type { SealedDocuments } from '../../store/key-store.js';
import type { Vault } from '../../vault.js';
import { audited } from '../audited.js';
import { ownActor } from '../calls.js';
import { DataEvents } from '../data-events.js';
import { type Alone, DefaultKey } from '../default-key.js';
import { KeyCache } from '../key-cache.js';
import { Keys } from '../keys.js';
import { Messages } from '../messages.js';
import type { KeyGround } from '../opened.js';
import { Records } from '../records.js';
import { auditIn } from './database-audit.js';
import type { DatabaseCounts } from './database-counts.js';
import type { DatabaseRing } from './database-ring.js';
import type { Rest } from './rests.js';
import { SealedKeyStore } from './sealed-key-store.js';

/** Documents counted at once. */
const PAGE = 1_024;

export interface OpenDatabaseSettings {
  sealed: SealedDocuments;
  fault: () => string | null;
  audit: OpenAuditLog;
  counts: DatabaseCounts;
  defaultKeySoftUses: number;
  /** 0 for any number. */
  keysPerDatabase: number;
  alone: Alone;
  /** Where other daemons write the documents, too: after which nothing that was read before is relied upon. */
  staleAfterMs: number | undefined;
}

/** Everything that stands on a database whose record key is known; its keys have a space of the vault to themselves. */
export class OpenDatabase {
  readonly databaseId: string;
  readonly ground: KeyGround;
  readonly keys: Keys;
  readonly messages: Messages;
  readonly defaultKey: DefaultKey;
  readonly events: DataEvents;
  readonly audit: ReturnType<typeof auditIn>;
  readonly vault: Vault;
  readonly #ring: DatabaseRing;
  readonly #store: SealedKeyStore;
  readonly #settings: OpenDatabaseSettings;
  readonly #freshening: NodeJS.Timeout | undefined;
  #documents: Promise<number> | undefined;
  #made = 0;

  constructor(vault: Vault, ring: DatabaseRing, restores: number, settings: OpenDatabaseSettings, rests: Rest[]) {
    const { sealed, fault, audit } = settings;
    this.databaseId = ring.name.databaseId;
    this.vault = vault;
    this.#ring = ring;
    this.#settings = settings;
    this.audit = auditIn(audit, this.databaseId);
    this.#store = new SealedKeyStore({ vault, ring, sealed, restores, fault });
    const records = new Records(vault, this.#store, ring);
    const onReserved = (keyId: string, uses: number) => this.defaultKey.reserved(keyId, uses);
    this.ground = { vault, keyring: ring, records, cache: new KeyCache(vault, records, ring, onReserved) };
    this.keys = new Keys(this.ground, this.#store);
    this.events = new DataEvents(vault, () => audit.dataWritten());
    this.messages = new Messages(this.ground.cache, this.events);
    const create = async () => (await this.create('', ownActor())).keyId;
    this.defaultKey = new DefaultKey(ring, this.messages, create, settings.alone, settings.defaultKeySoftUses);
    audit.follow(vault, this.databaseId);
    for (const [keyId, uses] of rests) vault.grantUses(keyId, uses);
    this.#freshening = this.#freshen(settings.staleAfterMs);
  }

  /**
   * No store tells of what becomes of keys whose names it does not know: where others may change them, each is read anew before it
   * is old. The native deadline holds where this thread is held up.
   */
  #freshen(staleAfterMs: number | undefined): NodeJS.Timeout | undefined {
    if (staleAfterMs === undefined) return undefined;
    const freshen = () => {
      this.ground.cache.retireAll();
      this.vault.keepFresh(binding.sinceBoot() + staleAfterMs);
    };
    freshen();
    return setInterval(freshen, staleAfterMs / 2).unref();
  }

  get cache(): KeyCache {
    return this.ground.cache;
  }

  /** What is to be waited for before the default key is used; undefined once it is known. */
  knowDefaultKey(): Promise<void> | undefined {
    return this.#ring.isLoaded ? undefined : this.#ring.load(this.#store);
  }

  async create(threadId: string, actor: string): Promise<CreatedKey> {
    const make = () => this.#counted(() => this.keys.create(threadId, actor));
    return audited(this.audit, { type: 'create_dek', actor, threadId }, make, ({ keyId }) => ({ keyId }));
  }

  /** PERMISSION_DENIED beyond as many keys as a database may hold. Of two at once, only one may be the last. */
  async #counted<T>(make: () => Promise<T>): Promise<T> {
    const { keysPerDatabase, counts } = this.#settings;
    if (keysPerDatabase === 0) return make();
    this.#documents ??= this.#count().catch((error) => {
      this.#documents = undefined;
      throw error;
    });
    const before = await this.#documents;
    if (before + this.#made >= keysPerDatabase) {
      counts.refused('keys_per_database');
      throw new KmsError('PERMISSION_DENIED', `this database holds ${keysPerDatabase} keys, which is its limit`);
    }
    this.#made += 1;
    try {
      return await make();
    } catch (error) {
      this.#made -= 1;
      throw error;
    }
  }

  async #count(): Promise<number> {
    const prefix = `${this.databaseId}/`;
    let count = 0;
    for (let after: string | undefined; ; ) {
      const page = await this.#settings.sealed.list(prefix, after, PAGE);
      count += page.length;
      if (page.length < PAGE) break;
      after = page.at(-1);
    }
    return count;
  }

  get isOpen(): boolean {
    return this.vault.isOpen;
  }

  /** Wipes all of its keys. What had been begun with one is done, and has its lines, before that. Returns the uses that are left. */
  close(): Rest[] {
    if (!this.isOpen) return [];
    clearInterval(this.#freshening);
    this.ground.cache.close();
    this.vault.retireAll();
    this.#settings.audit.leave(this.vault);
    const rests = this.vault.takeUnusedUses();
    this.vault.close();
    return rests;
  }

  async settled(): Promise<void> {
    await this.ground.records.settled();
  }
}
