import { KmsError } from '../../errors.js';
import { MAX_LIST_LIMIT } from '../../limits.js';
import { OP, type Op } from '../../wire/frames.js';
import { errorOfWire } from '../../wire/messages.js';
import { errorBody } from './answers.js';
import { BASE64, base64, base64List, batchAad, count, type Member, optional, type Schema, text, value } from './members.js';

export type Method = 'GET' | 'POST' | 'PUT' | 'DELETE';

/** One operation of the binary protocol under its HTTP name: the arguments come from members, the results become members. */
export interface Route {
  method: Method;
  /** `{key_id}` or `{slot_id}` stands for one segment of the path. */
  path: string;
  op: Op;
  summary: string;
  /** Of the query for GET and DELETE, of the JSON body otherwise. */
  members: readonly Member[];
  /** The operation's arguments, given the id in the path (if it has one) and then the values of the members. */
  args(values: readonly unknown[]): unknown[];
  /** Given the results, and the values again. Bytes are the JSON itself, and a secret. */
  answer(results: readonly unknown[], values: readonly unknown[]): object;
  answers: Schema;
}

const KEY_ID = text('key_id', { pattern: '^k_[0-9a-z]{1,64}$' });
const THREAD_ID = text('thread_id', { pattern: '^[A-Za-z0-9._:@/-]{1,256}$' });
const STRING: Schema = { type: 'string' };
const INTEGER: Schema = { type: 'integer' };
const BOOLEAN: Schema = { type: 'boolean' };
const NULLABLE: Schema = { ...STRING, nullable: true };

function object(properties: Record<string, Schema>): Schema {
  return { type: 'object', required: Object.keys(properties), properties };
}

const ERROR_ITEM = object({ error: object({ code: STRING, message: STRING }) });

const KEY_MEMBERS = {
  key_id: STRING,
  thread_id: { ...STRING, nullable: true },
  alg: STRING,
  state: { type: 'string', enum: ['active', 'disabled', 'destroyed'] },
  version: INTEGER,
  kek_id: STRING,
  kek_version: STRING,
  uses_reserved: INTEGER,
  created_at: STRING,
  updated_at: STRING,
  created_by: STRING,
};
const KEY = object(KEY_MEMBERS);

const ROTATION_STATE: Schema = { type: 'string', enum: ['idle', 'running', 'blocked', 'failed'] };
const ROTATION_PHASE: Schema = { type: 'string', enum: ['drain', 'rewrap', 'verify', 'retire'], nullable: true };

const STATUS = object({
  status: { type: 'string', enum: ['ok', 'sealed', 'degraded'] },
  version: STRING,
  protection: { type: 'string', enum: ['secretmem', 'mlock', 'none'] },
  pid: INTEGER,
  uptime_ms: INTEGER,
  store_fault: { ...STRING, nullable: true },
  audit_fault: { ...STRING, nullable: true },
  damaged_records: { type: 'array', items: object({ key_id: STRING, reason: STRING }) },
  keys_near_limit: { type: 'array', items: STRING },
  connections: INTEGER,
  cached_keys: INTEGER,
  data_dir: STRING,
  rotation: {
    ...object({
      state: ROTATION_STATE,
      phase: ROTATION_PHASE,
      total: INTEGER,
      done: INTEGER,
      due: NULLABLE,
    }),
    nullable: true,
  },
  pending_slots: { ...INTEGER, nullable: true },
});

const ROTATION_MEMBERS = {
  state: ROTATION_STATE,
  rotation_id: NULLABLE,
  phase: ROTATION_PHASE,
  kek_id: STRING,
  kek_version: STRING,
  total: INTEGER,
  done: INTEGER,
  keys_per_second: INTEGER,
  seconds_left: { ...INTEGER, nullable: true },
  started_at: NULLABLE,
  finished_at: NULLABLE,
  blocked_by: { type: 'array', items: object({ key_id: STRING, reason: STRING }) },
  error: NULLABLE,
  due: NULLABLE,
};

const SLOTS = object({
  slots: {
    type: 'array',
    items: object({
      slot_id: STRING,
      kind: { type: 'string', enum: ['master', 'recovery'] },
      state: { type: 'string', enum: ['active', 'pending', 'successor'] },
      created_at: STRING,
      expires_at: NULLABLE,
      in_use: BOOLEAN,
    }),
  },
});

const CREATED = object({ key_id: STRING, wrapped: BASE64, kek_id: STRING, kek_version: STRING });

function jsonOf(value: unknown): unknown {
  if (!(value instanceof Uint8Array)) return value;
  return Buffer.from(value.buffer, value.byteOffset, value.length).toString('base64');
}

/** The results, each under its name. */
function named(...names: string[]): Route['answer'] {
  return (results) => Object.fromEntries(names.map((name, index) => [name, jsonOf(results[index])]));
}

/** The values that are there, each under its name: a map of the binary protocol has no nil for what is not given. */
function present(of: readonly Member[], values: readonly unknown[]): object {
  const all = of.map(({ name }, index) => [name, values[index]] as const);
  return Object.fromEntries(all.filter(([, one]) => one !== null));
}

/** A JSON string of what is a secret: bytes, which are wiped when they are sent. */
function quoted(results: readonly unknown[]): Uint8Array {
  const secret = results[0] as Uint8Array;
  const text = new Uint8Array(new ArrayBuffer(secret.length + 2)).fill('"'.charCodeAt(0));
  text.set(secret, 1);
  return text;
}

/** The keys of a page as objects with attributes. */
function objects(results: readonly unknown[]): object {
  const objectOf = (key: object) => {
    const { key_id, state, ...attributes } = plain(key) as { key_id: string; state: string };
    return { object_id: key_id, state, attributes };
  };
  return { objects: (results[0] as object[]).map(objectOf), next: results[1] };
}

/** Numbers above 2^32 come as bigints from where MessagePack needs them so; all are below 2^53. */
function plain(value: object): object {
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, plainMember(one)]));
}

function plainMember(value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value);
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? plain(value) : value;
}

function onlyResult(results: readonly unknown[]): object {
  return plain(results[0] as object);
}

function page(results: readonly unknown[]): object {
  return { keys: (results[0] as object[]).map(plain), next: results[1] };
}

/** The items of a batch: each a result under its name, or its error. */
function items(name: string): Route['answer'] {
  const itemOf = (item: unknown) => {
    if (item instanceof Uint8Array) return { [name]: jsonOf(item) };
    const [code, message] = item as [number, string];
    return errorBody(errorOfWire(code, message));
  };
  return (results) => ({ results: (results[0] as unknown[]).map(itemOf) });
}

function itemsSchema(name: string): Schema {
  return object({ results: { type: 'array', items: { oneOf: [object({ [name]: BASE64 }), ERROR_ITEM] } } });
}

const asTheyAre: Route['args'] = (values) => [...values];

function route(
  method: Method,
  path: string,
  op: Op,
  summary: string,
  members: readonly Member[],
  [answer, answers]: [Route['answer'], Schema],
  args: Route['args'] = asTheyAre,
): Route {
  return { method, path, op, summary, members, args, answer, answers };
}

const created: [Route['answer'], Schema] = [named('key_id', 'wrapped', 'kek_id', 'kek_version'), CREATED];
const oneKey: [Route['answer'], Schema] = [onlyResult, KEY];
const done = (status: string): [Route['answer'], Schema] => [() => ({ status }), object({ status: STRING })];

const allSlots: [Route['answer'], Schema] = [named('slots'), SLOTS];

const BACKUP = object({
  path: STRING,
  bytes: INTEGER,
  store_id: STRING,
  generation: INTEGER,
  created_at: STRING,
  created_by: STRING,
  records: INTEGER,
  left_out: { type: 'array', items: STRING },
});
const BACKUP_ORDER: readonly Member[] = [text('path'), optional(value('skip_damaged', BOOLEAN))];

const PAGE_QUERY: readonly Member[] = [optional(text('cursor')), optional(count('limit', 1, MAX_LIST_LIMIT))];
const { key_id: _id, state: KEY_STATE, ...KEY_ATTRIBUTES } = KEY_MEMBERS;
const OWNED = object({ object_id: STRING, state: KEY_STATE, attributes: object(KEY_ATTRIBUTES) });

const NEW_KEK_HEX = text('new_kek_hex', { pattern: '^[0-9a-fA-F]{64}$' });
const NEW_MASTER_KEY_FILE = text('new_master_key_file');
const ROTATION_OPTIONS: readonly Member[] = [
  NEW_KEK_HEX,
  NEW_MASTER_KEY_FILE,
  value('wait', BOOLEAN),
  value('dry_run', BOOLEAN),
  value('keys_per_second', INTEGER),
  value('abandon', { type: 'array', items: STRING }),
];
const NEW_SLOT: readonly Member[] = [
  NEW_KEK_HEX,
  NEW_MASTER_KEY_FILE,
  value('kind', { type: 'string', enum: ['master', 'recovery'] }),
];

export const ROUTES: readonly Route[] = [
  route('POST', '/create_dek_for_thread', OP.createDekForThread, 'Makes a data key for a thread', [THREAD_ID], created),
  route('GET', '/get_wrapped', OP.getWrapped, 'The wrapped data key', [KEY_ID], [named('wrapped'), object({ wrapped: BASE64 })]),
  route(
    'POST',
    '/encrypt',
    OP.encrypt,
    'Encrypts under a key, or without key_id under the default key',
    [optional(KEY_ID), base64('plaintext'), optional(base64('aad'))],
    [named('ciphertext', 'key_version'), object({ ciphertext: BASE64, key_version: STRING })],
  ),
  route(
    'POST',
    '/decrypt',
    OP.decrypt,
    'Decrypts what was encrypted under a key, or without key_id under the default key',
    [optional(KEY_ID), base64('ciphertext'), optional(base64('aad'))],
    [named('plaintext'), object({ plaintext: BASE64 })],
  ),
  route(
    'POST',
    '/rewrap',
    OP.rewrap,
    'Moves a key to the active KEK; with a new key, that opens the store, too',
    [KEY_ID, optional(NEW_KEK_HEX)],
    [
      ([wrapped, kekId, kekVersion], [keyId]) => ({
        status: 'ok',
        key_id: keyId,
        wrapped: jsonOf(wrapped),
        kek_id: kekId,
        kek_version: kekVersion,
      }),
      object({ status: STRING, key_id: STRING, wrapped: BASE64, kek_id: STRING, kek_version: STRING }),
    ],
  ),
  route(
    'POST',
    '/rotate_kek',
    OP.rotateKek,
    'Makes a new KEK and moves every key to it; with a new key, that opens the store, too',
    ROTATION_OPTIONS.map(optional),
    [(results) => ({ status: 'ok', ...onlyResult(results) }), object({ status: STRING, ...ROTATION_MEMBERS })],
    (values) => [present(ROTATION_OPTIONS, values)],
  ),
  route('GET', '/rotation_status', OP.rotationStatus, 'How far a rotation is', [], [onlyResult, object(ROTATION_MEMBERS)]),
  route(
    'POST',
    '/new_database',
    OP.newDatabase,
    'Makes a client-sealed database and shows its secret, once',
    [],
    [quoted, { type: 'string', format: 'byte' }],
  ),
  route(
    'GET',
    '/objects/owned',
    OP.ownedKeys,
    'Lists the keys that the caller created, a page at a time',
    PAGE_QUERY,
    [objects, object({ objects: { type: 'array', items: OWNED }, next: { ...STRING, nullable: true } })],
    (values) => [present(PAGE_QUERY, values)],
  ),
  route('POST', '/v1/keys', OP.createDek, 'Makes a data key without a thread', [optional(text('label'))], created),
  route(
    'GET',
    '/v1/keys',
    OP.listKeys,
    'Lists keys, a page at a time',
    [optional(THREAD_ID), optional(text('cursor')), optional(count('limit', 1, MAX_LIST_LIMIT))],
    [page, object({ keys: { type: 'array', items: KEY }, next: { ...STRING, nullable: true } })],
    ([threadId, cursor, limit]) => {
      const query = { thread_id: threadId, cursor, limit };
      return [Object.fromEntries(Object.entries(query).filter(([, value]) => value !== null))];
    },
  ),
  route('GET', '/v1/keys/{key_id}', OP.describeKey, 'What is known about a key', [], oneKey),
  route('PUT', '/v1/keys/{key_id}/state', OP.setKeyState, 'Disables, enables or destroys a key', [text('state')], oneKey),
  route(
    'POST',
    '/v1/encrypt_many',
    OP.encryptMany,
    'Encrypts a batch under one key; a result or an error per item, in order',
    [KEY_ID, base64List('plaintexts'), optional(batchAad('aad'))],
    [items('ciphertext'), itemsSchema('ciphertext')],
  ),
  route(
    'POST',
    '/v1/decrypt_many',
    OP.decryptMany,
    'Decrypts a batch under one key; a result or an error per item, in order',
    [KEY_ID, base64List('ciphertexts'), optional(batchAad('aad'))],
    [items('plaintext'), itemsSchema('plaintext')],
  ),
  route('GET', '/v1/status', OP.status, 'The state of the service', [], [onlyResult, STATUS]),
  route('POST', '/v1/seal', OP.seal, 'Wipes every key until an unseal', [], done('sealed')),
  route('POST', '/v1/unseal', OP.unseal, 'Reads the master key from its file again', [], done('ok')),
  route(
    'POST',
    '/v1/backup',
    OP.backup,
    'Writes a backup to a new file of the machine',
    BACKUP_ORDER,
    [onlyResult, BACKUP],
    (values) => [present(BACKUP_ORDER, values)],
  ),
  route('GET', '/v1/slots', OP.slots, 'The ways to open the store', [], allSlots, () => [{ action: 'list' }]),
  route(
    'POST',
    '/v1/slots',
    OP.slots,
    'Lets another key open the store: until it has, for seven days',
    NEW_SLOT.map(optional),
    allSlots,
    (values) => [{ ...present(NEW_SLOT, values), action: 'add' }],
  ),
  route('POST', '/v1/confirm_slot', OP.slots, 'Makes the key that the daemon was started with one to stay', [], allSlots, () => [
    { action: 'confirm' },
  ]),
  route('DELETE', '/v1/slots/{slot_id}', OP.slots, 'Lets a key open the store no more', [], allSlots, ([slotId]) => [
    { action: 'remove', slot_id: slotId },
  ]),
];

/** What is reachable without an identity, `/metrics` excepted, beside `ROUTES`. */
export const OPEN_PATHS = ['/healthz', '/health', '/readyz', '/metrics', '/openapi.json'] as const;
export type OpenPath = (typeof OPEN_PATHS)[number];

/** Where a request goes. */
export type Target =
  | { kind: 'open'; path: OpenPath }
  /** `id` is the one in the path, not yet checked. */
  | { kind: 'operation'; route: Route; id: string | undefined };

export function takesBody({ method }: Route): boolean {
  return method === 'POST' || method === 'PUT';
}

/** Segments that may stand before a route: a proxy's or a client's own. Not `v1`, whose routes are all listed. */
const PREFIX = /^(\/(?!v1(\/|$))[A-Za-z0-9._~-]{1,64}){0,8}$/;
/** Paths with an id in them, which no other path ends like. */
const ID_PATH = /\/v1\/(?:keys\/([^/]{1,66})(\/state)?|slots\/([^/]{1,66}))$/;

function prefixed(path: string, route: string): boolean {
  return path.endsWith(route) && PREFIX.test(path.slice(0, path.length - route.length));
}

/** The routes of a path, whatever the method, and the id in it. */
function routesOf(path: string): { routes: readonly Route[]; id: string | undefined } {
  const found = ID_PATH.exec(path);
  if (found !== null && PREFIX.test(path.slice(0, found.index))) {
    const [, keyId, state = '', slotId] = found;
    const wanted = slotId === undefined ? `/v1/keys/{key_id}${state}` : '/v1/slots/{slot_id}';
    return { routes: ROUTES.filter((one) => one.path === wanted), id: keyId ?? slotId };
  }
  return { routes: ROUTES.filter((one) => prefixed(path, one.path)), id: undefined };
}

/** Thrown for a path that takes other methods. */
export class WrongMethod extends KmsError {
  constructor(readonly allowed: readonly string[]) {
    super('UNSUPPORTED', 'this method is not for this path');
  }
}

/** Thrown for a path that does not exist. */
export class NoRoute extends KmsError {
  constructor() {
    super('UNSUPPORTED', 'there is no such path');
  }
}

// The two that everything is measured by are found without a look at the rest.
const HOT = new Map(
  ROUTES.filter(({ op }) => op === OP.encrypt || op === OP.decrypt).map((one) => [`${one.method} ${one.path}`, one]),
);

export function targetOf(method: string, path: string): Target {
  const hot = HOT.get(`${method} ${path}`);
  if (hot !== undefined) return { kind: 'operation', route: hot, id: undefined };
  const open = OPEN_PATHS.find((one) => prefixed(path, one));
  if (open !== undefined) {
    if (method !== 'GET' && method !== 'HEAD') throw new WrongMethod(['GET', 'HEAD']);
    return { kind: 'open', path: open };
  }
  const { routes, id } = routesOf(path);
  if (routes.length === 0) throw new NoRoute();
  const found = routes.find((one) => one.method === method);
  if (found === undefined) throw new WrongMethod(routes.map((one) => one.method));
  return { kind: 'operation', route: found, id };
}
