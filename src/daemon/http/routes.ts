import { KmsError } from '../../errors.js';
import { MAX_LIST_LIMIT } from '../../limits.js';
import { OP, type Op } from '../../wire/frames.js';
import { errorOfWire } from '../../wire/messages.js';
import { errorBody } from './answers.js';
import { BASE64, base64, base64List, batchAad, count, type Member, optional, type Schema, text } from './members.js';

export type Method = 'GET' | 'POST' | 'PUT';

/** One operation of the binary protocol under its HTTP name: the arguments come from members, the results become members. */
export interface Route {
  method: Method;
  /** `{key_id}` stands for one segment of the path. */
  path: string;
  op: Op;
  summary: string;
  /** Of the query for GET, of the JSON body otherwise. */
  members: readonly Member[];
  /** The operation's arguments, given the value of `{key_id}` (if the path has it) and then those of the members. */
  args(values: readonly unknown[]): unknown[];
  answer(results: readonly unknown[]): object;
  answers: Schema;
}

const KEY_ID = text('key_id', { pattern: '^k_[0-9a-z]{1,64}$' });
const THREAD_ID = text('thread_id', { pattern: '^[A-Za-z0-9._:@/-]{1,256}$' });
const STRING: Schema = { type: 'string' };
const INTEGER: Schema = { type: 'integer' };
const OBJECT: Schema = { type: 'object' };

function object(properties: Record<string, Schema>): Schema {
  return { type: 'object', required: Object.keys(properties), properties };
}

const ERROR_ITEM = object({ error: object({ code: STRING, message: STRING }) });

const KEY = object({
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
});

const STATUS = object({
  status: { type: 'string', enum: ['ok', 'sealed', 'degraded'] },
  version: STRING,
  protection: { type: 'string', enum: ['secretmem', 'mlock', 'none'] },
  pid: INTEGER,
  uptime_ms: INTEGER,
  store_fault: { ...STRING, nullable: true },
  damaged_records: { type: 'array', items: object({ key_id: STRING, reason: STRING }) },
  keys_near_limit: { type: 'array', items: STRING },
  connections: INTEGER,
  cached_keys: INTEGER,
  data_dir: STRING,
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

/** Numbers above 2^32 come as bigints from where MessagePack needs them so; all are below 2^53. */
function plain(value: object): object {
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, typeof one === 'bigint' ? Number(one) : one]));
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
    'Moves a key to the active KEK; not in this version',
    [KEY_ID, optional(text('new_kek_hex'))],
    [named('wrapped', 'kek_id', 'kek_version'), object({ wrapped: BASE64, kek_id: STRING, kek_version: STRING })],
  ),
  route('POST', '/rotate_kek', OP.rotateKek, 'Makes a new KEK; not in this version', [], [onlyResult, OBJECT], () => [{}]),
  route('GET', '/rotation_status', OP.rotationStatus, 'How far a rotation is; not in this version', [], [onlyResult, OBJECT]),
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
];

/** What is reachable without an identity, `/metrics` excepted, beside `ROUTES`. */
export const OPEN_PATHS = ['/healthz', '/health', '/readyz', '/metrics', '/openapi.json'] as const;
export type OpenPath = (typeof OPEN_PATHS)[number];

/** Where a request goes. */
export type Target =
  | { kind: 'open'; path: OpenPath }
  /** `keyId` is the path's, not yet checked. */
  | { kind: 'operation'; route: Route; keyId: string | undefined };

/** Segments that may stand before a route: a proxy's or a client's own. Not `v1`, whose routes are all listed. */
const PREFIX = /^(\/(?!v1(\/|$))[A-Za-z0-9._~-]{1,64}){0,8}$/;
const KEY_PATH = /\/v1\/keys\/([^/]{1,66})(\/state)?$/;

function prefixed(path: string, route: string): boolean {
  return path.endsWith(route) && PREFIX.test(path.slice(0, path.length - route.length));
}

/** The routes of a path, whatever the method, and the key id in it. */
function routesOf(path: string): { routes: readonly Route[]; keyId: string | undefined } {
  const key = KEY_PATH.exec(path);
  if (key !== null && PREFIX.test(path.slice(0, key.index))) {
    const wanted = `/v1/keys/{key_id}${key[2] ?? ''}`;
    return { routes: ROUTES.filter((one) => one.path === wanted), keyId: key[1] };
  }
  return { routes: ROUTES.filter((one) => prefixed(path, one.path)), keyId: undefined };
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
  if (hot !== undefined) return { kind: 'operation', route: hot, keyId: undefined };
  const open = OPEN_PATHS.find((one) => prefixed(path, one));
  if (open !== undefined) {
    if (method !== 'GET' && method !== 'HEAD') throw new WrongMethod(['GET', 'HEAD']);
    return { kind: 'open', path: open };
  }
  const { routes, keyId } = routesOf(path);
  if (routes.length === 0) throw new NoRoute();
  const found = routes.find((one) => one.method === method);
  if (found === undefined) throw new WrongMethod(routes.map((one) => one.method));
  return { kind: 'operation', route: found, keyId };
}
