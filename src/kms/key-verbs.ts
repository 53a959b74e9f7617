import type { AuditLog } from '../audit/audit-log.js';
import { asKmsError, type KmsError } from '../errors.js';
import type {
  BatchAad,
  CallOptions,
  CreatedKey,
  Encrypted,
  ItemResult,
  KeyDescription,
  KeyPage,
  KeyState,
  ListQuery,
} from '../provider.js';
import { audited } from './audited.js';
import { type ActorOptions, actorOf, checkKeyId, checkThreadId, type StateOptions, userOf, within } from './calls.js';
import type { DataEvents } from './data-events.js';
import type { KeyCache } from './key-cache.js';
import type { Keys } from './keys.js';
import type { Messages } from './messages.js';

/** What the verbs stand on while it is open. */
export interface VerbGround {
  readonly audit: AuditLog;
  readonly events: DataEvents;
  readonly keys: Keys;
  readonly messages: Messages;
  readonly cache: KeyCache;
  create(threadId: string, actor: string): Promise<CreatedKey>;
}

/** The provider's verbs that are the same for the keys of a store and for those of a database in it. */
export abstract class KeyVerbs<Ground extends VerbGround> {
  /** Throws where it is not open. */
  protected abstract use(): Ground;

  // For the daemon's native path, which meets missing keys and missing uses itself.

  /** After the vault said that it has not got the key: brings the key, or its state, in. */
  async fetchKey(keyId: string): Promise<void> {
    await this.use().cache.fetch(checkKeyId(keyId));
  }

  /** After the vault said that the key's reserved uses are gone. */
  async reserveUses(keyId: string): Promise<void> {
    await this.use().cache.reserve(checkKeyId(keyId));
  }

  /** Tells the audit log that a frame's body of ops 2 to 5 failed of `error`; resolves to what is to be answered. */
  async failedFrame(actor: number, body: Uint8Array, error: unknown): Promise<KmsError> {
    try {
      return await this.use().events.failedFrame(actor, body, error);
    } catch (untold) {
      return asKmsError(untold);
    }
  }

  // Keys

  async createDekForThread(threadId: string, options?: ActorOptions): Promise<CreatedKey> {
    checkThreadId(threadId);
    const actor = actorOf(options);
    return within(options, async () => this.use().create(threadId, actor));
  }

  async createDek(label?: string, options?: ActorOptions): Promise<CreatedKey> {
    if (label !== undefined) checkThreadId(label);
    const actor = actorOf(options);
    return within(options, async () => this.use().create(label ?? '', actor));
  }

  async getWrapped(keyId: string, options?: ActorOptions): Promise<Uint8Array> {
    checkKeyId(keyId);
    const actor = actorOf(options);
    return within(options, async () => {
      const { audit, keys } = this.use();
      return audited(audit, { type: 'get_wrapped', actor, keyId }, () => keys.wrapped(keyId));
    });
  }

  async describeKey(keyId: string, options?: CallOptions): Promise<KeyDescription> {
    checkKeyId(keyId);
    return within(options, async () => this.use().keys.describe(keyId));
  }

  async listKeys(query: ListQuery = {}, options?: CallOptions): Promise<KeyPage> {
    return within(options, async () => this.use().keys.list(query));
  }

  /** Those that the caller created. */
  async ownedKeys(query: ListQuery = {}, options?: ActorOptions): Promise<KeyPage> {
    const actor = actorOf(options);
    return within(options, async () => this.use().keys.list(query, actor));
  }

  async setKeyState(keyId: string, state: KeyState, options?: StateOptions): Promise<KeyDescription> {
    checkKeyId(keyId);
    const actor = actorOf(options);
    return within(options, async () => {
      const { audit, keys } = this.use();
      const change = () => keys.setState(keyId, state, options?.onlyCreatedBy);
      const tell = ({ threadId }: KeyDescription) => (threadId === null ? {} : { threadId });
      return audited(audit, { type: 'key_state', actor, keyId, detail: { state } }, change, tell);
    });
  }

  disableKey(keyId: string, options?: CallOptions): Promise<KeyDescription> {
    return this.setKeyState(keyId, 'disabled', options);
  }

  enableKey(keyId: string, options?: CallOptions): Promise<KeyDescription> {
    return this.setKeyState(keyId, 'active', options);
  }

  destroyKey(keyId: string, options?: CallOptions): Promise<KeyDescription> {
    return this.setKeyState(keyId, 'destroyed', options);
  }

  // Messages

  async encryptWithDek(keyId: string, plaintext: Uint8Array, aad?: Uint8Array, options?: ActorOptions): Promise<Encrypted> {
    // Whoever has no options is spared all that they would need: it is half of what such a call costs.
    if (options === undefined) return this.use().messages.encrypt(keyId, plaintext, aad);
    return within(options, async () => this.use().messages.encrypt(keyId, plaintext, aad, userOf(options)));
  }

  async decryptWithDek(keyId: string, ciphertext: Uint8Array, aad?: Uint8Array, options?: ActorOptions): Promise<Uint8Array> {
    if (options === undefined) return this.use().messages.decrypt(keyId, ciphertext, aad);
    return within(options, async () => this.use().messages.decrypt(keyId, ciphertext, aad, userOf(options)));
  }

  async encryptMany(
    keyId: string,
    plaintexts: readonly Uint8Array[],
    aad?: BatchAad,
    options?: ActorOptions,
  ): Promise<ItemResult[]> {
    if (options === undefined) return this.use().messages.encryptMany(keyId, plaintexts, aad);
    return within(options, async () => this.use().messages.encryptMany(keyId, plaintexts, aad, userOf(options)));
  }

  async decryptMany(
    keyId: string,
    ciphertexts: readonly Uint8Array[],
    aad?: BatchAad,
    options?: ActorOptions,
  ): Promise<ItemResult[]> {
    if (options === undefined) return this.use().messages.decryptMany(keyId, ciphertexts, aad);
    return within(options, async () => this.use().messages.decryptMany(keyId, ciphertexts, aad, userOf(options)));
  }
}
