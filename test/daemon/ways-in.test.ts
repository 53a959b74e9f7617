import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { OPEN_PATHS, ROUTES } from '../../dist/daemon/http/routes.js';
import type { Daemon } from '../../dist/daemon/main.js';
import { OP, OPERATIONS, type OpName, type Role } from '../../dist/wire/frames.js';
import { binaryOutcome, binaryPeer, httpOutcome } from './entry.js';
import { scratch } from './running.js';
import { WAYS, type Way } from './ways-in.js';

/** A key that the daemon's own side made, and what is needed to use it. */
interface Ground {
  keyId: string;
  ciphertext: Buffer;
  /** Another way to open the store. */
  spareSlot: string;
  /** A path where nothing is, another one each time. */
  newFile(): string;
}

interface Operation {
  name: OpName;
  /** One of them is enough; `any` is whoever is heard. */
  may: ReadonlyArray<Role | 'any'>;
  /** Whether a client must be told of the key before it can be refused. */
  ofKey?: true;
  binary(ground: Ground): unknown[];
  http?: Endpoint;
  /** Its other endpoints. */
  more?: readonly Endpoint[];
}

interface Endpoint {
  method: string;
  path(ground: Ground): string;
  body?(ground: Ground): object;
}

const X = Buffer.from('x');
const base64 = X.toString('base64');

/** By docs/PROTOCOL.md and docs/HTTP.md, not by the tables of the product. */
const TABLE: readonly Operation[] = [
  { name: 'hello', may: ['any'], binary: () => [1, null] },
  {
    name: 'createDekForThread',
    may: ['client', 'admin'],
    binary: () => ['t'],
    http: { method: 'POST', path: () => '/create_dek_for_thread', body: () => ({ thread_id: 't' }) },
  },
  {
    name: 'encrypt',
    may: ['client', 'admin'],
    binary: ({ keyId }) => [keyId, X, null],
    http: { method: 'POST', path: () => '/encrypt', body: ({ keyId }) => ({ key_id: keyId, plaintext: base64 }) },
  },
  {
    name: 'decrypt',
    may: ['client', 'admin'],
    binary: ({ keyId, ciphertext }) => [keyId, ciphertext, null],
    http: {
      method: 'POST',
      path: () => '/decrypt',
      body: ({ keyId, ciphertext }) => ({ key_id: keyId, ciphertext: ciphertext.toString('base64') }),
    },
  },
  {
    name: 'encryptMany',
    may: ['client', 'admin'],
    binary: ({ keyId }) => [keyId, [X], null],
    http: { method: 'POST', path: () => '/v1/encrypt_many', body: ({ keyId }) => ({ key_id: keyId, plaintexts: [base64] }) },
  },
  {
    name: 'decryptMany',
    may: ['client', 'admin'],
    binary: ({ keyId, ciphertext }) => [keyId, [ciphertext], null],
    http: {
      method: 'POST',
      path: () => '/v1/decrypt_many',
      body: ({ keyId, ciphertext }) => ({ key_id: keyId, ciphertexts: [ciphertext.toString('base64')] }),
    },
  },
  {
    name: 'getWrapped',
    may: ['admin'],
    binary: ({ keyId }) => [keyId],
    http: { method: 'GET', path: ({ keyId }) => `/get_wrapped?key_id=${keyId}` },
  },
  {
    name: 'rewrap',
    may: ['admin'],
    binary: ({ keyId }) => [keyId, null],
    http: { method: 'POST', path: () => '/rewrap', body: ({ keyId }) => ({ key_id: keyId }) },
  },
  {
    name: 'rotateKek',
    may: ['admin'],
    binary: () => [{}],
    http: { method: 'POST', path: () => '/rotate_kek', body: () => ({}) },
  },
  {
    name: 'rotationStatus',
    may: ['auditor', 'admin'],
    binary: () => [],
    http: { method: 'GET', path: () => '/rotation_status' },
  },
  { name: 'status', may: ['auditor', 'admin'], binary: () => [], http: { method: 'GET', path: () => '/v1/status' } },
  {
    name: 'createDek',
    may: ['client', 'admin'],
    binary: () => [null],
    http: { method: 'POST', path: () => '/v1/keys', body: () => ({}) },
  },
  { name: 'listKeys', may: ['auditor', 'admin'], binary: () => [{}], http: { method: 'GET', path: () => '/v1/keys' } },
  {
    name: 'describeKey',
    may: ['auditor', 'admin'],
    binary: ({ keyId }) => [keyId],
    http: { method: 'GET', path: ({ keyId }) => `/v1/keys/${keyId}` },
  },
  {
    name: 'setKeyState',
    // A client on the keys that it made itself; this one is another's.
    may: ['admin'],
    ofKey: true,
    binary: ({ keyId }) => [keyId, 'active'],
    http: { method: 'PUT', path: ({ keyId }) => `/v1/keys/${keyId}/state`, body: () => ({ state: 'active' }) },
  },
  { name: 'openDatabase', may: ['client', 'admin'], binary: () => [null] },
  { name: 'seal', may: ['admin'], binary: () => [], http: { method: 'POST', path: () => '/v1/seal', body: () => ({}) } },
  { name: 'unseal', may: ['admin'], binary: () => [], http: { method: 'POST', path: () => '/v1/unseal', body: () => ({}) } },
  {
    name: 'slots',
    may: ['admin'],
    binary: () => [{ action: 'list' }],
    http: { method: 'GET', path: () => '/v1/slots' },
    more: [
      { method: 'POST', path: () => '/v1/slots', body: () => ({ new_kek_hex: 'a1'.repeat(32) }) },
      { method: 'POST', path: () => '/v1/confirm_slot', body: () => ({}) },
      { method: 'DELETE', path: ({ spareSlot }) => `/v1/slots/${spareSlot}` },
    ],
  },
  {
    name: 'backup',
    may: ['admin'],
    binary: ({ newFile }) => [{ path: newFile() }],
    http: { method: 'POST', path: () => '/v1/backup', body: ({ newFile }) => ({ path: newFile() }) },
  },
  {
    name: 'newDatabase',
    may: ['client', 'admin'],
    binary: () => [],
    http: { method: 'POST', path: () => '/new_database', body: () => ({}) },
  },
  {
    name: 'ownedKeys',
    may: ['client', 'admin'],
    binary: () => [{}],
    http: { method: 'GET', path: () => '/objects/owned' },
  },
];

/** Of HTTP, without an operation of the binary protocol. */
const OPEN: ReadonlyArray<readonly [path: string, may: ReadonlyArray<Role | 'any'>]> = [
  ['/healthz', ['any']],
  ['/health', ['any']],
  ['/readyz', ['any']],
  ['/openapi.json', ['any']],
  ['/metrics', ['auditor', 'admin']],
];

function allows({ roles, refused, isHeard }: Way, may: ReadonlyArray<Role | 'any'>): boolean {
  if (may.includes('any')) return refused === undefined || isHeard === true;
  return roles.some((role) => may.includes(role));
}

function expectedOf(way: Way, may: ReadonlyArray<Role | 'any'>): string {
  if (!allows(way, may)) return way.refused ?? 'PERMISSION_DENIED';
  return 'OK';
}

const STATUS: Record<string, string> = {
  OK: 'OK',
  CLOSED: 'CLOSED',
  UNAUTHENTICATED: '401 UNAUTHENTICATED',
  PERMISSION_DENIED: '403 PERMISSION_DENIED',
  UNSUPPORTED: '501 UNSUPPORTED',
};

function endpointsOf({ http, more = [] }: Operation): Endpoint[] {
  return http === undefined ? [] : [http, ...more];
}

test('the table has every operation and every endpoint', (t) => {
  t.deepEqual(
    TABLE.map(({ name }) => OP[name]),
    OPERATIONS.map(({ op }) => op),
  );
  const ground = { keyId: '{key_id}', ciphertext: X, spareSlot: '{slot_id}', newFile: () => '' };
  const endpoints = TABLE.flatMap(endpointsOf).map(({ method, path }) => `${method} ${path(ground).split('?')[0]}`);
  t.deepEqual(endpoints.sort(), ROUTES.map(({ method, path }) => `${method} ${path}`).sort());
  t.deepEqual(OPEN.map(([path]) => path).sort(), [...OPEN_PATHS].sort());
});

async function rotated(kms: Daemon['kms']): Promise<void> {
  while ((await kms.rotationStatus()).state === 'running') await delay(5);
}

// One after the other: the daemons are told whom to take themselves for as they start.
for (const way of WAYS) {
  test.serial(`${way.name}: every operation is allowed or refused as it must be`, async (t) => {
    const { daemon, entry } = await way.open(t);
    const { keyId } = await daemon.kms.createDekForThread('of-the-daemon', { actor: 'somebody' });
    const { ciphertext } = await daemon.kms.encryptWithDek(keyId, X);
    const { slotId } = await daemon.kms.addSlot({ keyHex: 'b2'.repeat(32) });
    const directory = scratch(t);
    let files = 0;
    const newFile = () => join(directory, `backup-${++files}`);
    const ground = { keyId, ciphertext: Buffer.from(ciphertext), spareSlot: slotId, newFile };
    for (const operation of TABLE) {
      const { name, may, ofKey, binary } = operation;
      const expected = expectedOf(way, may);
      const peer = await binaryPeer(entry).catch(() => undefined);
      const greeted =
        entry.token === undefined || peer === undefined ? 'OK' : await binaryOutcome(peer, OP.hello, [1, entry.token]);
      if (way.isHeard && way.refused !== undefined && entry.token !== undefined)
        t.is(greeted, 'UNAUTHENTICATED', 'hello with a token');
      t.is(peer === undefined ? 'CLOSED' : await binaryOutcome(peer, OP[name], binary(ground)), expected, `${name}, binary`);
      await peer?.close();
      if (name === 'seal') await daemon.kms.unseal();
      for (const { method, path, body } of endpointsOf(operation)) {
        // A rotation that the same daemon began for another protocol may be under way.
        await rotated(daemon.kms);
        // What is refused is so on the head alone: the body that it announces never comes.
        const needsBody = allows(way, may) || (ofKey === true && way.roles.includes('client'));
        const sent = needsBody ? body?.(ground) : undefined;
        t.is(await httpOutcome(entry, method, path(ground), sent), STATUS[expected]!, `${name}, HTTP ${method}`);
        if (name === 'seal') await daemon.kms.unseal();
      }
    }
    for (const [path, may] of OPEN) {
      t.is(await httpOutcome(entry, 'GET', path).catch(() => 'OK'), STATUS[expectedOf(way, may)]!, path);
    }
  });
}
