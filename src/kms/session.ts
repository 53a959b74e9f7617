import type { LastLines, OpenAuditLog } from '../audit/audit-log.js';
import { KmsError } from '../errors.js';
import type { Handle } from '../native.js';
import type { CreatedKey } from '../provider.js';
import type { KeyStore } from '../store/key-store.js';
import { Administration, type AdministrationSettings } from './administration.js';
import { audited } from './audited.js';
import { BatchedCreates } from './batched-creates.js';
import { ownActor } from './calls.js';
import { DataEvents } from './data-events.js';
import type { DatabaseCounts } from './databases/database-counts.js';
import { type DatabaseSettings, Databases } from './databases/databases.js';
import { type Alone, DefaultKey } from './default-key.js';
import type { KeyCache } from './key-cache.js';
import { Keys } from './keys.js';
import { Messages } from './messages.js';
import type { Opened } from './opened.js';

export interface SessionSettings extends AdministrationSettings, DatabaseSettings {
  store: KeyStore;
}

/** Everything that stands on an open store; replaced as a whole at an unseal. */
export class Session {
  readonly opened: Opened;
  readonly audit: OpenAuditLog;
  readonly events: DataEvents;
  readonly messages: Messages;
  readonly keys: Keys;
  readonly defaultKey: DefaultKey;
  readonly administration: Administration;
  readonly databases: Databases;
  readonly #batched: BatchedCreates | undefined;

  constructor(opened: Opened, settings: SessionSettings, audit: OpenAuditLog, counts: DatabaseCounts) {
    this.opened = opened;
    this.audit = audit;
    this.events = new DataEvents(opened.vault, () => audit.dataWritten());
    this.messages = new Messages(opened.cache, this.events);
    this.keys = new Keys(opened, settings.store);
    this.administration = new Administration(opened, settings.store, this.messages, audit, settings);
    this.databases = new Databases(opened, settings.store, audit, settings, counts);
    const { packed } = settings.store;
    this.#batched = packed && new BatchedCreates(opened, packed, audit);
    const create = async () => (await this.create('', ownActor())).keyId;
    const { shared } = settings.store;
    const alone: Alone = (work) => (shared === undefined ? work() : shared.exclusively('default-key', work));
    this.defaultKey = new DefaultKey(opened.keyring, this.messages, create, alone, settings.defaultKeySoftUses);
  }

  /**
   * What follows from a start, and must not come before its line in the audit log is durable: its master key is confirmed, and a
   * rotation that was left goes on. A disk that takes no writes is no reason not to serve: the next start does it. Of a
   * store that others share one start says nothing of the master keys that the others start with: there it takes a command.
   */
  async confirm(): Promise<void> {
    try {
      if (this.opened.sharing === undefined) await this.administration.confirmSlots(ownActor());
    } catch (error) {
      if (!(error instanceof KmsError && error.code === 'STORE_UNAVAILABLE')) throw error;
    }
    this.administration.rotation.resume(ownActor());
  }

  get cache(): KeyCache {
    return this.opened.cache;
  }

  create(threadId: string, actor: string, dek?: Handle): Promise<CreatedKey> {
    if (this.#batched !== undefined && dek === undefined) return this.#batched.create(threadId, actor);
    const make = () => this.keys.create(threadId, actor, dek);
    return audited(this.audit, { type: 'create_dek', actor, threadId }, make, ({ keyId }) => ({ keyId }));
  }

  /**
   * Wipes every key of it, once the last lines of the log are made. `settled` resolves when all writes to the store that had
   * begun are through.
   */
  wipe(last: 'stop' | 'seal', actor: string): LastLines & { settled: Promise<unknown> } {
    const { vault, records, keyring, cache, sharing } = this.opened;
    const stopped = this.administration.rotation.stop();
    cache.close();
    // First: an operation on the pool that ended after the last lines would be in none.
    const left = this.databases.close();
    vault.retireAll();
    const { told, closed } = this.audit.finish({ type: last, actor, outcome: 'ok' });
    vault.close();
    const unheard = sharing?.stop();
    return { told, closed, settled: Promise.all([told, stopped, left, unheard, records.settled(), keyring.settled()]) };
  }
}
