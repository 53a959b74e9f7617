import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { ERROR_TABLE, type ErrorCode, KmsError } from '../../dist/errors.js';
import type { EmbeddedKms } from '../../dist/kms/embedded.js';
import type { CreatedKey, ItemResult } from '../../dist/provider.js';
import { OP } from '../../dist/wire/frames.js';
import { type Call, keyMapOf, parseArguments, statusMapOf } from '../../dist/wire/messages.js';

const MAX_BODY_BYTES = 24 * 1024 * 1024;

type Members = Record<string, unknown>;
type Named<O, C = Call> = C extends { op: infer P } ? (O extends P ? C : never) : never;

interface Route {
  method: string;
  pattern: RegExp;
  /** Members it knows; undefined for the old endpoints, which ignore others. */
  members?: readonly string[];
  answer(kms: EmbeddedKms, members: Members, path: string[], query: URLSearchParams): Promise<unknown>;
}

/** The arguments of an operation, checked by the rules of the wire. */
function checked<O extends Call['op']>(op: O, ...args: unknown[]): Named<O> {
  return parseArguments(op, args) as Named<O>;
}

function binary(name: string, value: unknown): unknown {
  if (value === undefined || value === null) return null;
  const bytes = Buffer.from(String(value), 'base64');
  if (typeof value !== 'string' || bytes.toString('base64') !== value) {
    throw new KmsError('INVALID_ARGUMENT', `${name}: padded base64 was expected`);
  }
  return bytes;
}

function binaries(name: string, value: unknown): unknown {
  return Array.isArray(value) ? value.map((item) => binary(name, item)) : value;
}

function base64(data: Uint8Array): string {
  return Buffer.from(data).toString('base64');
}

function created(key: CreatedKey): unknown {
  return { key_id: key.keyId, wrapped: base64(key.wrapped), kek_id: key.kekId, kek_version: key.kekVersion };
}

function errorBody({ code, message }: KmsError): unknown {
  return { code, message: ['INTERNAL', 'STORE_UNAVAILABLE'].includes(code) ? ERROR_TABLE[code].message : message };
}

function results(items: ItemResult[], member: string): unknown {
  return {
    results: items.map((item) => (item instanceof KmsError ? { error: errorBody(item) } : { [member]: base64(item) })),
  };
}

function batch(op: typeof OP.encryptMany | typeof OP.decryptMany, members: Members, member: string) {
  const aad = Array.isArray(members['aad']) ? binaries('aad', members['aad']) : binary('aad', members['aad']);
  return checked(op, members['key_id'], binaries(member, members[member]), aad);
}

async function encrypt(kms: EmbeddedKms, members: Members): Promise<unknown> {
  const args = [members['key_id'] ?? null, binary('plaintext', members['plaintext']), binary('aad', members['aad'])];
  const { keyId, data, aad } = checked(OP.encrypt, ...args);
  if (keyId === undefined) return { ciphertext: base64(await kms.encrypt(data, aad)), key_version: '1' };
  const { ciphertext, keyVersion } = await kms.encryptWithDek(keyId, data, aad);
  return { ciphertext: base64(ciphertext), key_version: keyVersion };
}

async function decrypt(kms: EmbeddedKms, members: Members): Promise<unknown> {
  const args = [members['key_id'] ?? null, binary('ciphertext', members['ciphertext']), binary('aad', members['aad'])];
  const { keyId, data, aad } = checked(OP.decrypt, ...args);
  const plaintext = keyId === undefined ? await kms.decrypt(data, aad) : await kms.decryptWithDek(keyId, data, aad);
  return { plaintext: base64(plaintext) };
}

async function list(kms: EmbeddedKms, query: URLSearchParams): Promise<unknown> {
  const members = Object.fromEntries([...query].map(([name, value]) => [name, name === 'limit' ? Number(value) : value]));
  const { keys, next } = await kms.listKeys(checked(OP.listKeys, members).query);
  return { keys: keys.map(keyMapOf), next };
}

async function status(kms: EmbeddedKms): Promise<unknown> {
  const about = { version: '0.0.0', pid: process.pid, uptimeMs: 1, connections: 1, cachedKeys: kms.cachedKeys, dataDir: '' };
  return statusMapOf(await kms.health(), about);
}

async function health(kms: EmbeddedKms): Promise<unknown> {
  if (kms.sealed) throw new KmsError('SEALED');
  return 'ok';
}

const ROUTES: readonly Route[] = [
  { method: 'GET', pattern: /\/healthz?$/, answer: health },
  {
    method: 'POST',
    pattern: /\/create_dek_for_thread$/,
    answer: async (kms, { thread_id: id }) =>
      created(await kms.createDekForThread(checked(OP.createDekForThread, id ?? null).threadId)),
  },
  {
    method: 'GET',
    pattern: /\/get_wrapped$/,
    answer: async (kms, _members, _path, query) => ({
      wrapped: base64(await kms.getWrapped(checked(OP.getWrapped, query.get('key_id')).keyId)),
    }),
  },
  { method: 'POST', pattern: /\/encrypt$/, answer: encrypt },
  { method: 'POST', pattern: /\/decrypt$/, answer: decrypt },
  {
    method: 'POST',
    pattern: /\/rewrap$/,
    answer: async (kms, members) => kms.rewrapDek(checked(OP.rewrap, members['key_id'], null).keyId),
  },
  { method: 'POST', pattern: /\/rotate_kek$/, answer: (kms) => kms.rotateKek() },
  { method: 'GET', pattern: /\/rotation_status$/, answer: (kms) => kms.rotationStatus() },
  {
    method: 'POST',
    pattern: /\/v1\/keys$/,
    members: ['label'],
    answer: async (kms, members) => created(await kms.createDek(checked(OP.createDek, members['label'] ?? null).label)),
  },
  { method: 'GET', pattern: /\/v1\/keys$/, members: [], answer: (kms, _members, _path, query) => list(kms, query) },
  {
    method: 'GET',
    pattern: /\/v1\/keys\/([^/]+)$/,
    members: [],
    answer: async (kms, _members, [id]) => keyMapOf(await kms.describeKey(checked(OP.describeKey, id).keyId)),
  },
  {
    method: 'PUT',
    pattern: /\/v1\/keys\/([^/]+)\/state$/,
    members: ['state'],
    answer: async (kms, members, [id]) => {
      const { keyId, state } = checked(OP.setKeyState, id, members['state']);
      return keyMapOf(await kms.setKeyState(keyId, state));
    },
  },
  {
    method: 'POST',
    pattern: /\/v1\/encrypt_many$/,
    members: ['key_id', 'plaintexts', 'aad'],
    answer: async (kms, members) => {
      const { keyId, items, aad } = batch(OP.encryptMany, members, 'plaintexts');
      return results(await kms.encryptMany(keyId, items, aad), 'ciphertext');
    },
  },
  {
    method: 'POST',
    pattern: /\/v1\/decrypt_many$/,
    members: ['key_id', 'ciphertexts', 'aad'],
    answer: async (kms, members) => {
      const { keyId, items, aad } = batch(OP.decryptMany, members, 'ciphertexts');
      return results(await kms.decryptMany(keyId, items, aad), 'plaintext');
    },
  },
  { method: 'GET', pattern: /\/v1\/status$/, members: [], answer: status },
  { method: 'POST', pattern: /\/v1\/seal$/, members: [], answer: (kms) => kms.seal().then(() => ({ status: 'sealed' })) },
  { method: 'POST', pattern: /\/v1\/unseal$/, members: [], answer: (kms) => kms.unseal().then(() => ({ status: 'ok' })) },
];

/** The HTTP surface over an embedded provider: each request is read whole, looked up and carried out. */
export class HttpPeer {
  private readonly server = http.createServer((request, response) => void this.serve(request, response));

  constructor(private readonly kms: EmbeddedKms) {}

  /** On a path, or on a free port of loopback, which it returns. */
  async listen(path?: string): Promise<number> {
    await new Promise<void>((done) => {
      if (path === undefined) this.server.listen(0, '127.0.0.1', done);
      else this.server.listen(path, done);
    });
    return path === undefined ? (this.server.address() as AddressInfo).port : 0;
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((done) => this.server.close(done));
  }

  private async serve(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const id = request.headers['x-request-id'];
    if (typeof id === 'string') response.setHeader('X-Request-Id', id);
    try {
      const answer = await this.answer(request);
      const isText = typeof answer === 'string';
      response.setHeader('Content-Type', isText ? 'text/plain' : 'application/json');
      response.end(isText ? answer : JSON.stringify(answer));
    } catch (error) {
      const known = error instanceof KmsError ? error : new KmsError('INTERNAL');
      response.statusCode = ERROR_TABLE[known.code].http;
      response.setHeader('Content-Type', 'application/json');
      response.end(JSON.stringify({ error: errorBody(known) }));
    }
  }

  private async answer(request: http.IncomingMessage): Promise<unknown> {
    const { pathname, searchParams } = new URL(request.url!, 'http://peer');
    const body = await bodyOf(request);
    const route = ROUTES.find(({ method, pattern }) => method === request.method && pattern.test(pathname));
    if (route === undefined) throw new KmsError('UNSUPPORTED' satisfies ErrorCode, 'no such route');
    const members = body === '' ? {} : membersOf(body);
    const { members: known } = route;
    if (known !== undefined && Object.keys(members).some((name) => !known.includes(name))) {
      throw new KmsError('INVALID_ARGUMENT', 'a member that is not known');
    }
    return route.answer(this.kms, members, route.pattern.exec(pathname)!.slice(1), searchParams);
  }
}

async function bodyOf(request: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += (chunk as Buffer).length;
    if (bytes > MAX_BODY_BYTES) throw new KmsError('TOO_LARGE', 'the body');
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function membersOf(body: string): Members {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    throw new KmsError('INVALID_ARGUMENT', 'the body: JSON was expected');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new KmsError('INVALID_ARGUMENT', 'the body: an object was expected');
  }
  return value as Members;
}
