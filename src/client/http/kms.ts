import { KmsError } from '../../errors.js';
import { MAX_PLAINTEXT_BYTES } from '../../limits.js';
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
} from '../../provider.js';
import { OP, OPERATIONS, type Op } from '../../wire/frames.js';
import {
  argumentsOfRewrap,
  backupOfMap,
  descriptionOfMap,
  healthOfMap,
  MAX_CIPHERTEXT_BYTES,
  mapOfBackup,
  mapOfNewSlot,
  mapOfQuery,
  mapOfRotation,
  memberOf,
  onlySlotOf,
  parseArguments,
  rotationOfMap,
  slotsOfList,
} from '../../wire/messages.js';
import { checkBatch, checkMessage } from '../arguments.js';
import type { Greeting, KmsClient } from '../kms-client.js';
import {
  answerOf,
  base64Of,
  batchOf,
  binaryOf,
  bodyOf,
  createdOf,
  encryptedOf,
  errorOf,
  greetingOf,
  itemsOf,
  optionalBase64Of,
  ownedOf,
  pageOf,
  secretOf,
  statusOf,
} from './bodies.js';
import type { Channel, Question } from './channel.js';

/**
 * The provider behind the HTTP surface of a daemon, or of what stands before one. No operation is repeated on its own: what
 * failed with STORE_UNAVAILABLE or DEADLINE_EXCEEDED may have been done.
 */
export class HttpKms implements KmsClient {
  constructor(private readonly channel: Channel) {}

  async createDekForThread(threadId: string, options?: CallOptions): Promise<CreatedKey> {
    parseArguments(OP.createDekForThread, [threadId]);
    return this.post(OP.createDekForThread, '/create_dek_for_thread', { thread_id: threadId }, options, createdOf);
  }

  async createDek(label?: string, options?: CallOptions): Promise<CreatedKey> {
    parseArguments(OP.createDek, [label ?? null]);
    return this.post(OP.createDek, '/v1/keys', { label: label ?? undefined }, options, createdOf);
  }

  async encryptWithDek(keyId: string, plaintext: Uint8Array, aad?: Uint8Array, options?: CallOptions): Promise<Encrypted> {
    checkKeyId(keyId);
    return this.encryptUnder(keyId, plaintext, aad, options);
  }

  async decryptWithDek(keyId: string, ciphertext: Uint8Array, aad?: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    checkKeyId(keyId);
    return this.decryptUnder(keyId, ciphertext, aad, options);
  }

  async encryptMany(
    keyId: string,
    plaintexts: readonly Uint8Array[],
    aad?: BatchAad,
    options?: CallOptions,
  ): Promise<ItemResult[]> {
    checkKeyId(keyId);
    checkBatch('plaintexts', plaintexts, MAX_PLAINTEXT_BYTES, aad);
    const batch = batchOf(plaintexts, aad);
    const members = { key_id: keyId, plaintexts: batch.items, aad: batch.aad };
    const { length } = plaintexts;
    return this.post(OP.encryptMany, '/v1/encrypt_many', members, options, (answer) => itemsOf(answer, 'ciphertext', length));
  }

  async decryptMany(
    keyId: string,
    ciphertexts: readonly Uint8Array[],
    aad?: BatchAad,
    options?: CallOptions,
  ): Promise<ItemResult[]> {
    checkKeyId(keyId);
    checkBatch('ciphertexts', ciphertexts, MAX_CIPHERTEXT_BYTES, aad);
    const batch = batchOf(ciphertexts, aad);
    const members = { key_id: keyId, ciphertexts: batch.items, aad: batch.aad };
    const { length } = ciphertexts;
    return this.post(OP.decryptMany, '/v1/decrypt_many', members, options, (answer) => itemsOf(answer, 'plaintext', length));
  }

  async encrypt(plaintext: Uint8Array, aad?: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    return (await this.encryptUnder(undefined, plaintext, aad, options)).ciphertext;
  }

  async decrypt(sealed: Uint8Array, aad?: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    return this.decryptUnder(undefined, sealed, aad, options);
  }

  async getWrapped(keyId: string, options?: CallOptions): Promise<Uint8Array> {
    checkKeyId(keyId);
    return this.get(OP.getWrapped, `/get_wrapped?key_id=${keyId}`, options, (answer) => binaryOf(answer, 'wrapped'));
  }

  async rewrapDek(keyId: string, options?: RewrapOptions): Promise<CreatedKey> {
    parseArguments(OP.rewrap, argumentsOfRewrap(keyId, options));
    return this.post(OP.rewrap, '/rewrap', { key_id: keyId, new_kek_hex: options?.newKekHex }, options, createdOf);
  }

  async rotateKek(options?: RotationOptions): Promise<RotationStatus> {
    const members = mapOfRotation(options);
    parseArguments(OP.rotateKek, [members]);
    return this.post(OP.rotateKek, '/rotate_kek', members, options, rotationOfMap);
  }

  async rotationStatus(options?: CallOptions): Promise<RotationStatus> {
    return this.get(OP.rotationStatus, '/rotation_status', options, rotationOfMap);
  }

  async slots(options?: CallOptions): Promise<SlotDescription[]> {
    return this.get(OP.slots, '/v1/slots', options, slotsOf);
  }

  async addSlot(slot: NewSlot, options?: CallOptions): Promise<SlotDescription> {
    const members = mapOfNewSlot(slot);
    parseArguments(OP.slots, [{ ...members, action: 'add' }]);
    return this.post(OP.slots, '/v1/slots', members, options, (answer) => onlySlotOf(memberOf(answer, 'slots')));
  }

  async confirmSlot(options?: CallOptions): Promise<SlotDescription[]> {
    return this.post(OP.slots, '/v1/confirm_slot', {}, options, slotsOf);
  }

  async backup(order: BackupOrder, options?: CallOptions): Promise<BackupDescription> {
    const members = mapOfBackup(order);
    parseArguments(OP.backup, [members]);
    return this.post(OP.backup, '/v1/backup', members, options, backupOfMap);
  }

  async removeSlot(slotId: string, options?: CallOptions): Promise<void> {
    // It becomes part of a path.
    parseArguments(OP.slots, [{ action: 'remove', slot_id: slotId }]);
    const question: Question = { operation: nameOf(OP.slots), method: 'DELETE', route: `/v1/slots/${slotId}` };
    await this.channel.ask(question, options, (reply) => slotsOf(answerOf(reply)));
  }

  async listKeys(query?: ListQuery, options?: CallOptions): Promise<KeyPage> {
    const members = mapOfQuery(query ?? {});
    parseArguments(OP.listKeys, [members]);
    // A server may take an empty member of a query for an absent one, and begin again from the first page.
    if (members['cursor'] === '') throw new KmsError('INVALID_ARGUMENT', 'cursor: one of an earlier page was expected');
    const search = new URLSearchParams();
    for (const [name, value] of Object.entries(members)) search.set(name, String(value));
    return this.get(OP.listKeys, search.size === 0 ? '/v1/keys' : `/v1/keys?${search}`, options, pageOf);
  }

  async newDatabase(options?: CallOptions): Promise<Uint8Array> {
    return this.post(OP.newDatabase, '/new_database', {}, options, secretOf);
  }

  async ownedKeys(query?: Omit<ListQuery, 'threadId'>, options?: CallOptions): Promise<KeyPage> {
    const members = mapOfQuery(query ?? {});
    parseArguments(OP.ownedKeys, [members]);
    const parameters = new URLSearchParams(
      Object.entries(members).map(([name, value]): [string, string] => [name, String(value)]),
    ).toString();
    return this.get(OP.ownedKeys, `/objects/owned${parameters === '' ? '' : `?${parameters}`}`, options, ownedOf);
  }

  async describeKey(keyId: string, options?: CallOptions): Promise<KeyDescription> {
    checkKeyId(keyId);
    return this.get(OP.describeKey, `/v1/keys/${keyId}`, options, descriptionOfMap);
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
    return this.get(OP.status, '/v1/status', options, healthOfMap);
  }

  async status(options?: CallOptions): Promise<Record<string, unknown>> {
    return this.get(OP.status, '/v1/status', options, statusOf);
  }

  async seal(options?: CallOptions): Promise<void> {
    await this.post(OP.seal, '/v1/seal', {}, options, statusOf);
  }

  async unseal(options?: CallOptions): Promise<void> {
    await this.post(OP.unseal, '/v1/unseal', {}, options, statusOf);
  }

  /** HTTP has no hello of its own: this is read from the status, and needs its role. */
  async hello(options?: CallOptions): Promise<Greeting> {
    return this.get(OP.status, '/v1/status', options, greetingOf);
  }

  /** Whether a key service answers at all, sealed or not; needs no identity. Throws what stands in the way. */
  async reach(options?: CallOptions): Promise<void> {
    await this.channel.ask({ operation: 'healthz', method: 'GET', route: '/healthz' }, options, (reply) => {
      if (reply.status === 200 && reply.body.toString('latin1').trim() === 'ok') return;
      if (reply.status === 200) throw new KmsError('STORE_UNAVAILABLE', 'what answers there is no key service');
      const error = errorOf(reply);
      if (error.code !== 'SEALED') throw error;
    });
  }

  async close(): Promise<void> {
    this.channel.close();
  }

  private async encryptUnder(
    keyId: string | undefined,
    plaintext: Uint8Array,
    aad: Uint8Array | undefined,
    options: CallOptions | undefined,
  ): Promise<Encrypted> {
    checkMessage('plaintext', plaintext, MAX_PLAINTEXT_BYTES, aad);
    const members = { key_id: keyId, plaintext: base64Of(plaintext), aad: optionalBase64Of(aad) };
    return this.post(OP.encrypt, '/encrypt', members, options, encryptedOf);
  }

  private async decryptUnder(
    keyId: string | undefined,
    ciphertext: Uint8Array,
    aad: Uint8Array | undefined,
    options: CallOptions | undefined,
  ): Promise<Uint8Array> {
    checkMessage('ciphertext', ciphertext, MAX_CIPHERTEXT_BYTES, aad);
    const members = { key_id: keyId, ciphertext: base64Of(ciphertext), aad: optionalBase64Of(aad) };
    return this.post(OP.decrypt, '/decrypt', members, options, (answer) => binaryOf(answer, 'plaintext'));
  }

  private async setState(keyId: string, state: KeyState, options: CallOptions | undefined): Promise<KeyDescription> {
    checkKeyId(keyId);
    const question: Question = {
      operation: nameOf(OP.setKeyState),
      method: 'PUT',
      route: `/v1/keys/${keyId}/state`,
      body: bodyOf({ state }),
    };
    return this.channel.ask(question, options, (reply) => descriptionOfMap(answerOf(reply)));
  }

  private get<T>(op: Op, route: string, options: CallOptions | undefined, read: (answer: unknown) => T): Promise<T> {
    const question: Question = { operation: nameOf(op), method: 'GET', route };
    return this.channel.ask(question, options, (reply) => read(answerOf(reply)));
  }

  private post<T>(
    op: Op,
    route: string,
    members: Record<string, unknown>,
    options: CallOptions | undefined,
    read: (answer: unknown) => T,
  ): Promise<T> {
    const question: Question = { operation: nameOf(op), method: 'POST', route, body: bodyOf(members) };
    return this.channel.ask(question, options, (reply) => read(answerOf(reply)));
  }
}

function slotsOf(answer: unknown): SlotDescription[] {
  return slotsOfList(memberOf(answer, 'slots'));
}

function nameOf(op: Op): string {
  return OPERATIONS[op]!.name;
}

/** It becomes part of a path. */
function checkKeyId(keyId: string): void {
  parseArguments(OP.describeKey, [keyId]);
}
