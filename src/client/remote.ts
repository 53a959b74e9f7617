import { KmsError } from '../errors.js';
import { MAX_PLAINTEXT_BYTES } from '../limits.js';
import type {
  BackupDescription,
  BackupOrder,
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
  NewSlot,
  RewrapOptions,
  RotationOptions,
  RotationStatus,
  SlotDescription,
} from '../provider.js';
import { OP, PROTOCOL_VERSION } from '../wire/frames.js';
import { checkKeyId } from '../wire/hot.js';
import {
  argumentsOfRewrap,
  backupOfMap,
  bytesOf,
  createdOfResults,
  descriptionOfMap,
  healthOfMap,
  MAX_CIPHERTEXT_BYTES,
  mapOf,
  mapOfBackup,
  mapOfNewSlot,
  mapOfQuery,
  mapOfRotation,
  onlySlotOf,
  pageOfResults,
  parseArguments,
  rotationOfMap,
  slotsOfList,
  textOf,
} from '../wire/messages.js';
import { checkBatch, checkMessage } from './arguments.js';
import type { Connection } from './connection.js';
import type { Greeting, KmsClient } from './kms-client.js';
import { KIND } from './slots.js';

/**
 * The provider behind a connection to the daemon. Results are fresh memory that nobody writes to again; small ones share
 * an ArrayBuffer of 256 KiB with their neighbours, which cannot be transferred (copy one that is to live long).
 * No operation is repeated on its own: what failed with STORE_UNAVAILABLE or DEADLINE_EXCEEDED may have been done.
 */
export class RemoteKms implements KmsClient {
  constructor(
    private readonly connection: Connection,
    private readonly token?: string,
  ) {}

  async createDekForThread(threadId: string, options?: CallOptions): Promise<CreatedKey> {
    return createdOfResults(await this.cold(OP.createDekForThread, [threadId], options));
  }

  async createDek(label?: string, options?: CallOptions): Promise<CreatedKey> {
    return createdOfResults(await this.cold(OP.createDek, [label ?? null], options));
  }

  encryptWithDek(keyId: string, plaintext: Uint8Array, aad?: Uint8Array, options?: CallOptions): Promise<Encrypted> {
    try {
      checkKeyId(keyId);
      checkMessage('plaintext', plaintext, MAX_PLAINTEXT_BYTES, aad);
      return this.connection.callHot(KIND.encrypted, OP.encrypt, keyId, plaintext, aad, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  decryptWithDek(keyId: string, ciphertext: Uint8Array, aad?: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    try {
      checkKeyId(keyId);
      checkMessage('ciphertext', ciphertext, MAX_CIPHERTEXT_BYTES, aad);
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
    checkMessage('plaintext', plaintext, MAX_PLAINTEXT_BYTES, aad);
    return this.connection.callHot(KIND.sealed, OP.encrypt, undefined, plaintext, aad, options);
  }

  async decrypt(sealed: Uint8Array, aad?: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    checkMessage('ciphertext', sealed, MAX_CIPHERTEXT_BYTES, aad);
    return this.connection.callHot(KIND.opened, OP.decrypt, undefined, sealed, aad, options);
  }

  async getWrapped(keyId: string, options?: CallOptions): Promise<Uint8Array> {
    return bytesOf((await this.cold(OP.getWrapped, [keyId], options))[0], 'wrapped');
  }

  async rewrapDek(keyId: string, options?: RewrapOptions): Promise<CreatedKey> {
    return createdOfResults([keyId, ...(await this.cold(OP.rewrap, argumentsOfRewrap(keyId, options), options))]);
  }

  async rotateKek(options?: RotationOptions): Promise<RotationStatus> {
    return rotationOfMap((await this.cold(OP.rotateKek, [mapOfRotation(options)], options))[0]);
  }

  async rotationStatus(options?: CallOptions): Promise<RotationStatus> {
    return rotationOfMap((await this.cold(OP.rotationStatus, [], options))[0]);
  }

  async slots(options?: CallOptions): Promise<SlotDescription[]> {
    return slotsOfList((await this.cold(OP.slots, [{ action: 'list' }], options))[0]);
  }

  async addSlot(slot: NewSlot, options?: CallOptions): Promise<SlotDescription> {
    return onlySlotOf((await this.cold(OP.slots, [{ ...mapOfNewSlot(slot), action: 'add' }], options))[0]);
  }

  async confirmSlot(options?: CallOptions): Promise<SlotDescription[]> {
    return slotsOfList((await this.cold(OP.slots, [{ action: 'confirm' }], options))[0]);
  }

  async removeSlot(slotId: string, options?: CallOptions): Promise<void> {
    await this.cold(OP.slots, [{ action: 'remove', slot_id: slotId }], options);
  }

  async backup(order: BackupOrder, options?: CallOptions): Promise<BackupDescription> {
    return backupOfMap((await this.cold(OP.backup, [mapOfBackup(order)], options))[0]);
  }

  async listKeys(query?: ListQuery, options?: CallOptions): Promise<KeyPage> {
    return pageOfResults(await this.cold(OP.listKeys, [mapOfQuery(query ?? {})], options));
  }

  async ownedKeys(query?: Omit<ListQuery, 'threadId'>, options?: CallOptions): Promise<KeyPage> {
    return pageOfResults(await this.cold(OP.ownedKeys, [mapOfQuery(query ?? {})], options));
  }

  newDatabase(options?: CallOptions): Promise<Uint8Array> {
    return this.connection.callForSecret(OP.newDatabase, options);
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

  async status(options?: CallOptions): Promise<Record<string, unknown>> {
    return mapOf((await this.cold(OP.status, [], options))[0], 'status');
  }

  async seal(options?: CallOptions): Promise<void> {
    await this.cold(OP.seal, [], options);
  }

  async unseal(options?: CallOptions): Promise<void> {
    await this.cold(OP.unseal, [], options);
  }

  async hello(options?: CallOptions): Promise<Greeting> {
    const [version, server, protection, sealed] = await this.cold(OP.hello, [PROTOCOL_VERSION, this.token ?? null], options);
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
