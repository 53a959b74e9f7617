import { KmsError } from '../errors.js';
import { MAX_AAD_BYTES, MAX_BATCH_ITEMS, MAX_PLAINTEXT_BYTES } from '../limits.js';
import type {
  BatchAad,
  CallOptions,
  CreatedKey,
  Encrypted,
  Health,
  ItemResult,
  KeyDescription,
  KeyPage,
  KeyState,
  ListQuery,
  Provider,
} from '../provider.js';
import { OP, PROTOCOL_VERSION } from '../wire/frames.js';
import { checkKeyId } from '../wire/hot.js';
import {
  bytesOf,
  createdOfResults,
  descriptionOfMap,
  healthOfMap,
  MAX_CIPHERTEXT_BYTES,
  mapOf,
  mapOfQuery,
  pageOfResults,
  parseArguments,
  textOf,
} from '../wire/messages.js';
import type { Connection } from './connection.js';
import { KIND } from './slots.js';

/** What a server says of itself. */
export interface Greeting {
  version: number;
  server: string;
  protection: string;
  sealed: boolean;
}

/**
 * The provider behind a connection to the daemon. Results are fresh memory that nobody writes to again; small ones share
 * an ArrayBuffer of 256 KiB with their neighbours, which cannot be transferred (copy one that is to live long).
 * No operation is repeated on its own: what failed with STORE_UNAVAILABLE or DEADLINE_EXCEEDED may have been done.
 */
export class RemoteKms implements Provider {
  constructor(private readonly connection: Connection) {}

  async createDekForThread(threadId: string, options?: CallOptions): Promise<CreatedKey> {
    return createdOfResults(await this.cold(OP.createDekForThread, [threadId], options));
  }

  async createDek(label?: string, options?: CallOptions): Promise<CreatedKey> {
    return createdOfResults(await this.cold(OP.createDek, [label ?? null], options));
  }

  encryptWithDek(keyId: string, plaintext: Uint8Array, aad?: Uint8Array, options?: CallOptions): Promise<Encrypted> {
    try {
      checkKeyId(keyId);
      checkBytes('plaintext', plaintext, MAX_PLAINTEXT_BYTES);
      if (aad !== undefined) checkBytes('aad', aad, MAX_AAD_BYTES);
      return this.connection.callHot(KIND.encrypted, OP.encrypt, keyId, plaintext, aad, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  decryptWithDek(keyId: string, ciphertext: Uint8Array, aad?: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    try {
      checkKeyId(keyId);
      checkBytes('ciphertext', ciphertext, MAX_CIPHERTEXT_BYTES);
      if (aad !== undefined) checkBytes('aad', aad, MAX_AAD_BYTES);
      return this.connection.callHot(KIND.opened, OP.decrypt, keyId, ciphertext, aad, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  async encryptMany(
    keyId: string,
    plaintexts: readonly Uint8Array[],
    aad?: BatchAad,
    options?: CallOptions,
  ): Promise<ItemResult[]> {
    checkKeyId(keyId);
    checkBatch('plaintexts', plaintexts, MAX_PLAINTEXT_BYTES, aad);
    return this.batch(
      await this.connection.callBatch(KIND.sealedItems, OP.encryptMany, keyId, plaintexts, aad, options),
      plaintexts,
    );
  }

  async decryptMany(
    keyId: string,
    ciphertexts: readonly Uint8Array[],
    aad?: BatchAad,
    options?: CallOptions,
  ): Promise<ItemResult[]> {
    checkKeyId(keyId);
    checkBatch('ciphertexts', ciphertexts, MAX_CIPHERTEXT_BYTES, aad);
    return this.batch(
      await this.connection.callBatch(KIND.openedItems, OP.decryptMany, keyId, ciphertexts, aad, options),
      ciphertexts,
    );
  }

  async encrypt(plaintext: Uint8Array, aad?: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    checkBytes('plaintext', plaintext, MAX_PLAINTEXT_BYTES);
    if (aad !== undefined) checkBytes('aad', aad, MAX_AAD_BYTES);
    return this.connection.callHot(KIND.sealed, OP.encrypt, undefined, plaintext, aad, options);
  }

  async decrypt(sealed: Uint8Array, aad?: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    checkBytes('ciphertext', sealed, MAX_CIPHERTEXT_BYTES);
    if (aad !== undefined) checkBytes('aad', aad, MAX_AAD_BYTES);
    return this.connection.callHot(KIND.opened, OP.decrypt, undefined, sealed, aad, options);
  }

  async getWrapped(keyId: string, options?: CallOptions): Promise<Uint8Array> {
    return bytesOf((await this.cold(OP.getWrapped, [keyId], options))[0], 'wrapped');
  }

  async rewrapDek(keyId: string, options?: CallOptions): Promise<CreatedKey> {
    return createdOfResults([keyId, ...(await this.cold(OP.rewrap, [keyId, null], options))]);
  }

  async rotateKek(options?: CallOptions): Promise<Record<string, unknown>> {
    return mapOf((await this.cold(OP.rotateKek, [{}], options))[0], 'status');
  }

  async rotationStatus(options?: CallOptions): Promise<Record<string, unknown>> {
    return mapOf((await this.cold(OP.rotationStatus, [], options))[0], 'status');
  }

  async listKeys(query?: ListQuery, options?: CallOptions): Promise<KeyPage> {
    return pageOfResults(await this.cold(OP.listKeys, [mapOfQuery(query ?? {})], options));
  }

  async describeKey(keyId: string, options?: CallOptions): Promise<KeyDescription> {
    return descriptionOfMap((await this.cold(OP.describeKey, [keyId], options))[0]);
  }

  disableKey(keyId: string, options?: CallOptions): Promise<KeyDescription> {
    return this.setState(keyId, 'disabled', options);
  }

  enableKey(keyId: string, options?: CallOptions): Promise<KeyDescription> {
    return this.setState(keyId, 'active', options);
  }

  destroyKey(keyId: string, options?: CallOptions): Promise<KeyDescription> {
    return this.setState(keyId, 'destroyed', options);
  }

  async health(options?: CallOptions): Promise<Health> {
    return healthOfMap((await this.cold(OP.status, [], options))[0]);
  }

  /** The whole status map of the daemon, named as docs/PROTOCOL.md names it. */
  async status(options?: CallOptions): Promise<Record<string, unknown>> {
    return mapOf((await this.cold(OP.status, [], options))[0], 'status');
  }

  /** Wipes every key in the daemon: all operations on keys answer SEALED from here. */
  async seal(options?: CallOptions): Promise<void> {
    await this.cold(OP.seal, [], options);
  }

  /** Has the daemon read its master key again. */
  async unseal(options?: CallOptions): Promise<void> {
    await this.cold(OP.unseal, [], options);
  }

  async hello(options?: CallOptions): Promise<Greeting> {
    const [version, server, protection, sealed] = await this.cold(OP.hello, [PROTOCOL_VERSION, null], options);
    if (version !== PROTOCOL_VERSION) throw new KmsError('UNSUPPORTED', 'the server speaks another version of the protocol');
    return {
      version,
      server: textOf(server, 'server'),
      protection: textOf(protection, 'protection'),
      sealed: sealed === true,
    };
  }

  async close(): Promise<void> {
    this.connection.close();
  }

  private async setState(keyId: string, state: KeyState, options: CallOptions | undefined): Promise<KeyDescription> {
    return descriptionOfMap((await this.cold(OP.setKeyState, [keyId, state], options))[0]);
  }

  /** Refused here for the reasons the server would give, so that a mistake costs no round trip. */
  private cold(op: number, args: readonly unknown[], options: CallOptions | undefined): Promise<unknown[]> {
    parseArguments(op, args);
    return this.connection.call(op, args, options);
  }

  private batch(results: ItemResult[], items: readonly Uint8Array[]): ItemResult[] {
    if (results.length !== items.length) throw new KmsError('INTERNAL', 'the key service answered for another number of items');
    return results;
  }
}

function checkBytes(name: string, value: Uint8Array, limit: number): void {
  if (!(value instanceof Uint8Array)) throw new KmsError('INVALID_ARGUMENT', `${name}: a Uint8Array was expected`);
  if (value.length > limit) throw new KmsError('TOO_LARGE', `${name}: more than ${limit} bytes`);
}

function checkBatch(name: string, items: readonly Uint8Array[], limit: number, aad: BatchAad): void {
  if (!Array.isArray(items)) throw new KmsError('INVALID_ARGUMENT', `${name}: an array was expected`);
  if (items.length > MAX_BATCH_ITEMS) throw new KmsError('TOO_LARGE', `${name}: more than ${MAX_BATCH_ITEMS} items`);
  for (const item of items) checkBytes(name, item, limit);
  if (aad === undefined) return;
  if (aad instanceof Uint8Array) {
    checkBytes('aad', aad, MAX_AAD_BYTES);
    return;
  }
  if (!Array.isArray(aad) || aad.length !== items.length)
    throw new KmsError('INVALID_ARGUMENT', 'aad: one per item was expected');
  for (const item of aad) if (item !== undefined) checkBytes('aad', item, MAX_AAD_BYTES);
}
