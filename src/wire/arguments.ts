import { KmsError } from '../errors.js';
import {
  CIPHERTEXT_OVERHEAD,
  KEY_BYTES,
  KEY_ID_PATTERN,
  MAX_AAD_BYTES,
  MAX_ABANDONED_KEYS,
  MAX_BATCH_ITEMS,
  MAX_DATABASE_SECRET_BYTES,
  MAX_KEYS_PER_SECOND,
  MAX_LIST_LIMIT,
  MAX_PATH_BYTES,
  MAX_PLAINTEXT_BYTES,
  SEALED_HEADER_BYTES,
  SLOT_ID_PATTERN,
  THREAD_ID_PATTERN,
} from '../limits.js';
import type { BackupOrder, BatchAad, KeyState, ListQuery, NewSlot, RotationOptions, SlotDescription } from '../provider.js';
import { OP, OPERATIONS } from './frames.js';

/** What an argument of a ciphertext may measure: the largest plaintext in the longer of the two forms. */
export const MAX_CIPHERTEXT_BYTES = MAX_PLAINTEXT_BYTES + CIPHERTEXT_OVERHEAD + SEALED_HEADER_BYTES;

/** A request whose arguments have been checked. Binaries are views of the request's body. */
export type Call =
  | { op: typeof OP.hello; version: number; token: string | undefined }
  | { op: typeof OP.createDekForThread; threadId: string }
  | { op: typeof OP.encrypt | typeof OP.decrypt; keyId: string | undefined; data: Uint8Array; aad: Uint8Array | undefined }
  | { op: typeof OP.encryptMany | typeof OP.decryptMany; keyId: string; items: Uint8Array[]; aad: BatchAad }
  | { op: typeof OP.getWrapped | typeof OP.describeKey; keyId: string }
  | { op: typeof OP.rewrap; keyId: string; newKekHex: string | undefined }
  | { op: typeof OP.rotateKek; options: RotationOptions }
  | { op: typeof OP.rotationStatus | typeof OP.status | typeof OP.seal | typeof OP.unseal | typeof OP.newDatabase }
  | { op: typeof OP.createDek; label: string | undefined }
  | { op: typeof OP.listKeys | typeof OP.ownedKeys; query: ListQuery }
  | { op: typeof OP.setKeyState; keyId: string; state: KeyState }
  | { op: typeof OP.openDatabase; secret: Uint8Array | undefined }
  | { op: typeof OP.backup; order: BackupOrder }
  | ({ op: typeof OP.slots } & SlotRequest);

export type SlotRequest =
  | { action: 'list' | 'confirm' }
  | { action: 'add'; slot: NewSlot }
  | { action: 'remove'; slotId: string };

/**
 * The arguments of operation `op` as typed values. Throws INVALID_ARGUMENT that names the argument (never its value),
 * TOO_LARGE for a binary above its limit, UNSUPPORTED for an operation this version does not know.
 */
export function parseArguments(op: number, args: readonly unknown[]): Call {
  switch (op) {
    case OP.hello:
      count(args, 2);
      return { op, version: uint('protocol_version', args[0], 0xffff_ffff), token: optional('token', args[1], string) };
    case OP.createDekForThread:
      count(args, 1);
      return { op, threadId: threadId('thread_id', args[0]) };
    case OP.encrypt:
    case OP.decrypt:
      count(args, 3);
      return { op, keyId: optional('key_id', args[0], keyId), data: message(op, args[1]), aad: optional('aad', args[2], aad) };
    case OP.encryptMany:
    case OP.decryptMany: {
      count(args, 3);
      const items = list(op === OP.encryptMany ? 'plaintexts' : 'ciphertexts', args[1]).map((item) => message(op, item));
      return { op, keyId: keyId('key_id', args[0]), items, aad: batchAad(args[2], items.length) };
    }
    case OP.getWrapped:
    case OP.describeKey:
      count(args, 1);
      return { op, keyId: keyId('key_id', args[0]) };
    case OP.rewrap:
      count(args, 2);
      return { op, keyId: keyId('key_id', args[0]), newKekHex: optional('new_kek_hex', args[1], hexKey) };
    case OP.rotateKek:
      count(args, 1);
      return { op, options: rotationOptions(map('options', args[0])) };
    case OP.rotationStatus:
    case OP.status:
    case OP.seal:
    case OP.unseal:
    case OP.newDatabase:
      count(args, 0);
      return { op };
    case OP.createDek:
      count(args, 1);
      return { op, label: optional('label', args[0], threadId) };
    case OP.listKeys:
      count(args, 1);
      return { op, query: listQuery(map('query', args[0])) };
    case OP.ownedKeys:
      count(args, 1);
      return { op, query: ownedQuery(map('query', args[0])) };
    case OP.setKeyState:
      count(args, 2);
      return { op, keyId: keyId('key_id', args[0]), state: keyState(args[1]) };
    case OP.openDatabase:
      count(args, 1);
      return { op, secret: optional('secret', args[0], secret) };
    case OP.slots:
      count(args, 1);
      return { op, ...slotRequest(map('request', args[0])) };
    case OP.backup:
      count(args, 1);
      return { op, order: backupOrder(map('request', args[0])) };
    default:
      if (op >= OPERATIONS.length) throw new KmsError('UNSUPPORTED', `operation ${op}`);
      throw new KmsError('INVALID_ARGUMENT', 'op: an operation number was expected');
  }
}

function refuse(name: string, rule: string): KmsError {
  return new KmsError('INVALID_ARGUMENT', `${name}: ${rule}`);
}

function count(args: readonly unknown[], expected: number): void {
  if (args.length !== expected) throw refuse('arguments', `${expected} expected, ${args.length} given`);
}

function optional<T>(name: string, value: unknown, check: (name: string, value: unknown) => T): T | undefined {
  return value === null ? undefined : check(name, value);
}

function string(name: string, value: unknown): string {
  if (typeof value !== 'string') throw refuse(name, 'a string was expected');
  return value;
}

function binary(name: string, value: unknown): Uint8Array {
  if (!(value instanceof Uint8Array)) throw refuse(name, 'a binary was expected');
  return value;
}

function uint(name: string, value: unknown, largest: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > largest) {
    throw refuse(name, `an unsigned integer up to ${largest} was expected`);
  }
  return value;
}

function list(name: string, value: unknown): unknown[] {
  if (!Array.isArray(value)) throw refuse(name, 'an array was expected');
  if (value.length > MAX_BATCH_ITEMS) throw new KmsError('TOO_LARGE', `${name}: more than ${MAX_BATCH_ITEMS} items`);
  return value;
}

function map(name: string, value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || value instanceof Uint8Array) {
    throw refuse(name, 'a map was expected');
  }
  return value as Record<string, unknown>;
}

/** Throws INVALID_ARGUMENT unless `value` is a key id. */
export function keyId(name: string, value: unknown): string {
  if (typeof value !== 'string' || !KEY_ID_PATTERN.test(value)) throw refuse(name, `must match ${KEY_ID_PATTERN.source}`);
  return value;
}

/** Throws INVALID_ARGUMENT unless `value` is a thread id, or a label, which follows the same rule. */
export function threadId(name: string, value: unknown): string {
  if (typeof value !== 'string' || !THREAD_ID_PATTERN.test(value)) throw refuse(name, `must match ${THREAD_ID_PATTERN.source}`);
  return value;
}

function bounded(name: string, value: unknown, limit: number): Uint8Array {
  const bytes = binary(name, value);
  if (bytes.length > limit) throw new KmsError('TOO_LARGE', `${name}: more than ${limit} bytes`);
  return bytes;
}

function message(op: number, value: unknown): Uint8Array {
  const seals = op === OP.encrypt || op === OP.encryptMany;
  return seals ? bounded('plaintext', value, MAX_PLAINTEXT_BYTES) : bounded('ciphertext', value, MAX_CIPHERTEXT_BYTES);
}

function aad(name: string, value: unknown): Uint8Array {
  return bounded(name, value, MAX_AAD_BYTES);
}

function secret(name: string, value: unknown): Uint8Array {
  return bounded(name, value, MAX_DATABASE_SECRET_BYTES);
}

function batchAad(value: unknown, items: number): BatchAad {
  if (!Array.isArray(value)) return optional('aad', value, aad);
  if (value.length !== items) throw refuse('aad', 'one per item was expected');
  return value.map((item) => optional('aad', item, aad));
}

function keyState(value: unknown): KeyState {
  if (value !== 'active' && value !== 'disabled' && value !== 'destroyed') {
    throw refuse('state', 'active, disabled or destroyed was expected');
  }
  return value;
}

function listQuery(members: Record<string, unknown>): ListQuery {
  const query: ListQuery = {};
  for (const [name, value] of Object.entries(members)) {
    if (name === 'thread_id') query.threadId = threadId(name, value);
    else if (name === 'cursor') query.cursor = string(name, value);
    else if (name === 'limit') query.limit = uint(name, value, MAX_LIST_LIMIT);
    // The name is the peer's text: it is not repeated.
    else throw refuse('query', 'only thread_id, cursor and limit are known');
  }
  if (query.limit === 0) throw refuse('limit', 'at least 1 was expected');
  return query;
}

function ownedQuery(members: Record<string, unknown>): ListQuery {
  if (Object.hasOwn(members, 'thread_id')) throw refuse('query', 'only cursor and limit are known');
  return listQuery(members);
}

const HEX_KEY = new RegExp(`^[0-9a-fA-F]{${2 * KEY_BYTES}}$`);

function hexKey(name: string, value: unknown): string {
  if (typeof value !== 'string' || !HEX_KEY.test(value)) throw refuse(name, `${2 * KEY_BYTES} hex digits were expected`);
  return value;
}

/** A path of the machine that has the store, whose working directory is nobody's business. Never repeated: it may be a key. */
function absolutePath(name: string, value: unknown): string {
  if (typeof value !== 'string' || !value.startsWith('/') || value.includes('\0') || Buffer.byteLength(value) > MAX_PATH_BYTES) {
    throw refuse(name, 'an absolute path was expected');
  }
  return value;
}

function bool(name: string, value: unknown): boolean {
  if (typeof value !== 'boolean') throw refuse(name, 'true or false was expected');
  return value;
}

function keyIds(name: string, value: unknown): string[] {
  if (!Array.isArray(value)) throw refuse(name, 'an array was expected');
  if (value.length > MAX_ABANDONED_KEYS) throw new KmsError('TOO_LARGE', `${name}: more than ${MAX_ABANDONED_KEYS} keys`);
  return value.map((id) => keyId(name, id));
}

function slotKind(name: string, value: unknown): SlotDescription['kind'] {
  if (value !== 'master' && value !== 'recovery') throw refuse(name, 'master or recovery was expected');
  return value;
}

function slotId(name: string, value: unknown): string {
  if (typeof value !== 'string' || !SLOT_ID_PATTERN.test(value)) throw refuse(name, `must match ${SLOT_ID_PATTERN.source}`);
  return value;
}

function refuseTwoKeys(hex: string | undefined, file: string | undefined): void {
  if (hex !== undefined && file !== undefined) throw refuse('new_kek_hex', 'not together with new_master_key_file');
}

function rotationOptions(members: Record<string, unknown>): RotationOptions {
  const options: RotationOptions = {};
  for (const [name, value] of Object.entries(members)) {
    if (name === 'new_kek_hex') options.newKekHex = hexKey(name, value);
    else if (name === 'new_master_key_file') options.newMasterKeyFile = absolutePath(name, value);
    else if (name === 'wait') options.wait = bool(name, value);
    else if (name === 'dry_run') options.dryRun = bool(name, value);
    else if (name === 'keys_per_second') options.keysPerSecond = uint(name, value, MAX_KEYS_PER_SECOND);
    else if (name === 'abandon') options.abandon = keyIds(name, value);
    else {
      const known = 'new_kek_hex, new_master_key_file, wait, dry_run, keys_per_second and abandon';
      throw refuse('options', `only ${known} are known`);
    }
  }
  refuseTwoKeys(options.newKekHex, options.newMasterKeyFile);
  return options;
}

const SLOT_MEMBERS: Record<SlotRequest['action'], readonly string[]> = {
  list: [],
  confirm: [],
  add: ['new_kek_hex', 'new_master_key_file', 'kind'],
  remove: ['slot_id'],
};

function slotRequest(members: Record<string, unknown>): SlotRequest {
  const { action } = members;
  if (action !== 'list' && action !== 'confirm' && action !== 'add' && action !== 'remove') {
    throw refuse('action', 'list, add, confirm or remove was expected');
  }
  const known = ['action', ...SLOT_MEMBERS[action]];
  if (Object.keys(members).some((name) => !known.includes(name))) {
    throw refuse('request', `only ${known.join(', ')} are known for ${action}`);
  }
  if (action === 'list' || action === 'confirm') return { action };
  if (action === 'remove') return { action, slotId: slotId('slot_id', members['slot_id']) };
  return { action, slot: newSlot(members) };
}

function backupOrder(members: Record<string, unknown>): BackupOrder {
  const { path, skip_damaged: skipDamaged, ...others } = members;
  if (Object.keys(others).length > 0) throw refuse('request', 'only path and skip_damaged are known');
  const order: BackupOrder = { path: absolutePath('path', path) };
  if (skipDamaged !== undefined) order.skipDamaged = bool('skip_damaged', skipDamaged);
  return order;
}

function newSlot(members: Record<string, unknown>): NewSlot {
  const { new_kek_hex: hex, new_master_key_file: file, kind } = members;
  const slot: NewSlot = {};
  if (hex !== undefined) slot.keyHex = hexKey('new_kek_hex', hex);
  if (file !== undefined) slot.masterKeyFile = absolutePath('new_master_key_file', file);
  if (kind !== undefined) slot.kind = slotKind('kind', kind);
  refuseTwoKeys(slot.keyHex, slot.masterKeyFile);
  if (slot.keyHex === undefined && slot.masterKeyFile === undefined) throw refuse('new_master_key_file', 'is missing');
  return slot;
}
