import test from 'ava';
import { Channel } from '../../dist/client/http/channel.js';
import { HttpKms } from '../../dist/client/http/kms.js';
import { connectKms, type KmsClient } from '../../dist/client/index.js';
import { type ErrorCode, KmsError } from '../../dist/errors.js';
import { BACKUP, BACKUP_MAP } from './backup-samples.js';
import { FakeHttp, listener } from './fake-http.js';
import { until } from './fake-server.js';
import { HEX, ROTATION, ROTATION_MAP, SLOT, SLOT_MAP } from './rotation-samples.js';

const KEY = `k_${'0'.repeat(32)}`;
const DATA = Buffer.from('data');
const WRAPPED = new Uint8Array(60).fill(6);
const wrapped = Buffer.from(WRAPPED).toString('base64');
const CREATED = { key_id: KEY, wrapped, kek_id: 'kek_1', kek_version: '1' };
const CREATED_KEY = { keyId: KEY, wrapped: WRAPPED, kekId: 'kek_1', kekVersion: '1' };
const TIME = '2026-01-31T12:00:00.000Z';
const KEY_MAP = {
  key_id: KEY,
  thread_id: null,
  alg: 'A256GCM',
  state: 'active',
  version: 2,
  kek_id: 'kek_1',
  kek_version: '1',
  uses_reserved: 1024,
  created_at: TIME,
  updated_at: TIME,
  created_by: 'uid:0',
};
const DESCRIPTION = {
  keyId: KEY,
  threadId: null,
  alg: 'A256GCM',
  state: 'active',
  version: 2,
  kekId: 'kek_1',
  kekVersion: '1',
  usesReserved: 1024,
  createdAt: TIME,
  updatedAt: TIME,
  createdBy: 'uid:0',
};
const STATUS = {
  status: 'degraded',
  version: '0.1.0',
  protection: 'mlock',
  store_fault: 'disk',
  audit_fault: null,
  damaged_records: [],
  keys_near_limit: [KEY],
};

type Call = (kms: KmsClient) => Promise<unknown>;

const CALLS: ReadonlyArray<[name: string, call: Call, sent: string, body: unknown, answer: unknown, expected: unknown]> = [
  [
    'createDekForThread',
    (k) => k.createDekForThread('a/b'),
    'POST /create_dek_for_thread',
    { thread_id: 'a/b' },
    CREATED,
    CREATED_KEY,
  ],
  ['createDek', (k) => k.createDek(), 'POST /v1/keys', {}, CREATED, CREATED_KEY],
  ['createDek with a label', (k) => k.createDek('l'), 'POST /v1/keys', { label: 'l' }, CREATED, CREATED_KEY],
  [
    'encryptWithDek',
    (k) => k.encryptWithDek(KEY, DATA, WRAPPED),
    'POST /encrypt',
    { key_id: KEY, plaintext: 'ZGF0YQ==', aad: wrapped },
    { ciphertext: wrapped, key_version: '3' },
    { ciphertext: WRAPPED, keyVersion: '3' },
  ],
  [
    'encrypt',
    (k) => k.encrypt(DATA),
    'POST /encrypt',
    { plaintext: 'ZGF0YQ==' },
    { ciphertext: wrapped, key_version: '3' },
    WRAPPED,
  ],
  [
    'decryptWithDek',
    (k) => k.decryptWithDek(KEY, DATA),
    'POST /decrypt',
    { key_id: KEY, ciphertext: 'ZGF0YQ==' },
    { plaintext: '' },
    new Uint8Array(),
  ],
  [
    'decrypt',
    (k) => k.decrypt(DATA, new Uint8Array()),
    'POST /decrypt',
    { ciphertext: 'ZGF0YQ==', aad: '' },
    { plaintext: wrapped },
    WRAPPED,
  ],
  [
    'encryptMany',
    (k) => k.encryptMany(KEY, [DATA, DATA], [undefined, WRAPPED]),
    'POST /v1/encrypt_many',
    { key_id: KEY, plaintexts: ['ZGF0YQ==', 'ZGF0YQ=='], aad: [null, wrapped] },
    { results: [{ ciphertext: wrapped }, { ciphertext: '' }] },
    [WRAPPED, new Uint8Array()],
  ],
  [
    'decryptMany',
    (k) => k.decryptMany(KEY, [DATA], WRAPPED),
    'POST /v1/decrypt_many',
    { key_id: KEY, ciphertexts: ['ZGF0YQ=='], aad: wrapped },
    { results: [{ plaintext: wrapped }] },
    [WRAPPED],
  ],
  ['getWrapped', (k) => k.getWrapped(KEY), `GET /get_wrapped?key_id=${KEY}`, undefined, { wrapped }, WRAPPED],
  ['rewrapDek', (k) => k.rewrapDek(KEY), 'POST /rewrap', { key_id: KEY }, { status: 'ok', ...CREATED }, CREATED_KEY],
  [
    'rewrapDek with a new key',
    (k) => k.rewrapDek(KEY, { newKekHex: HEX }),
    'POST /rewrap',
    { key_id: KEY, new_kek_hex: HEX },
    { status: 'ok', ...CREATED },
    CREATED_KEY,
  ],
  ['rotateKek', (k) => k.rotateKek(), 'POST /rotate_kek', {}, { status: 'ok', ...ROTATION_MAP }, ROTATION],
  [
    'rotateKek with options',
    (k) => k.rotateKek({ newKekHex: HEX, wait: true, dryRun: true, keysPerSecond: 5, abandon: [KEY], deadlineMs: 9_999 }),
    'POST /rotate_kek',
    { new_kek_hex: HEX, wait: true, dry_run: true, keys_per_second: 5, abandon: [KEY] },
    { status: 'ok', ...ROTATION_MAP },
    ROTATION,
  ],
  ['rotationStatus', (k) => k.rotationStatus(), 'GET /rotation_status', undefined, ROTATION_MAP, ROTATION],
  [
    'backup',
    (k) => k.backup({ path: '/b', skipDamaged: true }),
    'POST /v1/backup',
    { path: '/b', skip_damaged: true },
    BACKUP_MAP,
    BACKUP,
  ],
  ['slots', (k) => k.slots(), 'GET /v1/slots', undefined, { slots: [SLOT_MAP, SLOT_MAP] }, [SLOT, SLOT]],
  [
    'addSlot',
    (k) => k.addSlot({ masterKeyFile: '/k', kind: 'recovery' }),
    'POST /v1/slots',
    { new_master_key_file: '/k', kind: 'recovery' },
    { slots: [SLOT_MAP] },
    SLOT,
  ],
  ['removeSlot', (k) => k.removeSlot(SLOT.slotId), `DELETE /v1/slots/${SLOT.slotId}`, undefined, { slots: [] }, undefined],
  [
    'listKeys',
    (k) => k.listKeys(),
    'GET /v1/keys',
    undefined,
    { keys: [KEY_MAP], next: null },
    { keys: [DESCRIPTION], next: null },
  ],
  [
    'listKeys with a query',
    (k) => k.listKeys({ threadId: 'a/b@c:d', cursor: 'c&limit=9', limit: 5 }),
    'GET /v1/keys?thread_id=a%2Fb%40c%3Ad&cursor=c%26limit%3D9&limit=5',
    undefined,
    { keys: [], next: 'n' },
    { keys: [], next: 'n' },
  ],
  ['describeKey', (k) => k.describeKey(KEY), `GET /v1/keys/${KEY}`, undefined, KEY_MAP, DESCRIPTION],
  ['disableKey', (k) => k.disableKey(KEY), `PUT /v1/keys/${KEY}/state`, { state: 'disabled' }, KEY_MAP, DESCRIPTION],
  ['enableKey', (k) => k.enableKey(KEY), `PUT /v1/keys/${KEY}/state`, { state: 'active' }, KEY_MAP, DESCRIPTION],
  ['destroyKey', (k) => k.destroyKey(KEY), `PUT /v1/keys/${KEY}/state`, { state: 'destroyed' }, KEY_MAP, DESCRIPTION],
  ['status', (k) => k.status(), 'GET /v1/status', undefined, STATUS, STATUS],
  [
    'health',
    (k) => k.health(),
    'GET /v1/status',
    undefined,
    STATUS,
    { status: 'degraded', protection: 'mlock', storeFault: 'disk', auditFault: null, damagedRecords: [], keysNearLimit: [KEY] },
  ],
  [
    'hello',
    (k) => k.hello(),
    'GET /v1/status',
    undefined,
    { ...STATUS, status: 'sealed' },
    { version: 1, server: 'progressdb-kms/0.1.0', protection: 'mlock', sealed: true },
  ],
  ['seal', (k) => k.seal(), 'POST /v1/seal', {}, { status: 'sealed' }, undefined],
  ['unseal', (k) => k.unseal(), 'POST /v1/unseal', {}, { status: 'ok' }, undefined],
];
for (const [name, call, sent, body, answer, expected] of CALLS) {
  test(`${name} asks over HTTP what the surface takes and gives what the provider promises`, async (t) => {
    const fake = await FakeHttp.on(t);
    fake.onRequest = (response) => response.end(JSON.stringify(answer));
    const kms = await fake.client(t, { endpoint: `http://127.0.0.1:${fake.port}/a/prefix/` });
    t.deepEqual((await call(kms)) as object, expected as object);
    t.is(fake.asked.length, 1);
    const [{ method, url, headers, body: got }] = fake.asked as [FakeHttp['asked'][0]];
    t.is(`${method} ${url}`, sent.replace(' ', ' /a/prefix'));
    t.deepEqual(got === '' ? undefined : JSON.parse(got), body);
    t.is(headers.host, `127.0.0.1:${fake.port}`);
    t.is(headers['content-type'], body === undefined ? undefined : 'application/json');
    t.regex(String(headers['x-request-id']), /^[A-Za-z0-9._-]{1,64}$/);
    t.is(headers.authorization, undefined);
  });
}

const LIES: ReadonlyArray<[name: string, call: Call, answer: unknown]> = [
  ['a plaintext that is missing', (k) => k.decrypt(DATA), {}],
  ['a plaintext that is null', (k) => k.decrypt(DATA), { plaintext: null }],
  ['a plaintext that is an array', (k) => k.decrypt(DATA), { plaintext: ['QQ=='] }],
  ['base64 without padding', (k) => k.decrypt(DATA), { plaintext: 'QQ' }],
  ['base64 with bits that mean nothing', (k) => k.decrypt(DATA), { plaintext: 'QR==' }],
  ['base64 of the URL alphabet', (k) => k.decrypt(DATA), { plaintext: '-_-_' }],
  ['base64 with a line end', (k) => k.decrypt(DATA), { plaintext: 'QUFB\n' }],
  ['base64 with text behind its end', (k) => k.decrypt(DATA), { plaintext: 'QQ==QQ==' }],
  ['a ciphertext without a key version', (k) => k.encryptWithDek(KEY, DATA), { ciphertext: wrapped }],
  ['a key version that is a number', (k) => k.encryptWithDek(KEY, DATA), { ciphertext: wrapped, key_version: 1 }],
  ['a wrapped key that is no base64', (k) => k.createDek(), { ...CREATED, wrapped: '%' }],
  ['a key without an id', (k) => k.createDek(), { ...CREATED, key_id: undefined }],
  ['an unknown state', (k) => k.describeKey(KEY), { ...KEY_MAP, state: 'lost' }],
  ['a list that is none', (k) => k.listKeys(), { keys: {}, next: null }],
  ['a status that is an array', (k) => k.status(), []],
  ['an answer that is null', (k) => k.decrypt(DATA), null],
  ['fewer results than items', (k) => k.encryptMany(KEY, [DATA, DATA]), { results: [{ ciphertext: wrapped }] }],
  ['more results than items', (k) => k.encryptMany(KEY, []), { results: [{ ciphertext: wrapped }] }],
  ['a result that is neither data nor error', (k) => k.decryptMany(KEY, [DATA]), { results: [{ ciphertext: wrapped }] }],
  ['an error of no known code', (k) => k.decryptMany(KEY, [DATA]), { results: [{ error: { code: 'toString' } }] }],
];
for (const [name, call, answer] of LIES) {
  test(`${name} is not believed, over HTTP`, async (t) => {
    const fake = await FakeHttp.on(t);
    fake.onRequest = (response) => response.end(JSON.stringify(answer));
    const kms = await fake.client(t);
    t.is((await t.throwsAsync(call(kms), { instanceOf: KmsError }))?.code, 'INTERNAL');
  });
}

test('an answer that is no JSON is refused without a word of it', async (t) => {
  const fake = await FakeHttp.on(t);
  const kms = await fake.client(t);
  for (const body of ['', 'plaintext of somebody', '{"plaintext":"QQ=="', '\ufeff{}x']) {
    fake.onRequest = (response) => response.end(body);
    const error = await t.throwsAsync(kms.decrypt(DATA), { instanceOf: KmsError });
    t.is(error?.code, 'INTERNAL');
    t.notRegex(`${error?.stack} ${String(error?.cause)}`, /somebody/);
  }
});

const REFUSALS: ReadonlyArray<[status: number, body: string, code: ErrorCode, message: RegExp]> = [
  [404, '{"error":{"code":"KEY_NOT_FOUND","message":"no such key"}}', 'KEY_NOT_FOUND', /^no such key$/],
  [400, '{"error":{"code":"INVALID_ARGUMENT","message":"invalid argument: aad"}}', 'INVALID_ARGUMENT', /^invalid argument: aad$/],
  [400, '{"error":{"code":"AUTHENTICATION_FAILED","message":"the tag"}}', 'AUTHENTICATION_FAILED', /^decryption failed$/],
  [503, '{"error":{"code":"SEALED"}}', 'SEALED', /^the key service is sealed$/],
  [401, '{"error":{"code":"NEW_CODE","message":"x"}}', 'UNAUTHENTICATED', /status 401$/],
  [409, '{"error":{"code":"__proto__","message":"x"}}', 'CONFLICT', /status 409$/],
  [404, '<html>', 'UNSUPPORTED', /status 404$/],
  [500, 'stack trace', 'INTERNAL', /^internal error: the server answered with status 500$/],
  [502, '', 'STORE_UNAVAILABLE', /status 502$/],
  [429, '', 'BUSY', /status 429$/],
  [413, '', 'TOO_LARGE', /status 413$/],
  [418, '{"error":null}', 'INTERNAL', /status 418$/],
  [201, '{"plaintext":"QQ=="}', 'INTERNAL', /status 201$/],
  [204, '', 'INTERNAL', /status 204$/],
];
for (const [status, body, code, message] of REFUSALS) {
  test(`status ${status} with ${body === '' ? 'nothing' : body} is ${code}`, async (t) => {
    const fake = await FakeHttp.on(t);
    fake.onRequest = (response) => response.writeHead(status).end(body);
    const error = await t.throwsAsync((await fake.client(t)).decrypt(DATA), { instanceOf: KmsError });
    t.is(error?.code, code);
    t.regex(error?.message ?? '', message);
  });
}

test('a redirect is refused, and nobody is asked a second time', async (t) => {
  const [fake, other] = [await FakeHttp.on(t), await FakeHttp.on(t)];
  const kms = await fake.client(t, { token: 'abc' });
  for (const status of [301, 302, 303, 307, 308]) {
    fake.onRequest = (response) =>
      response.writeHead(status, { location: `http://127.0.0.1:${other.port}/decrypt` }).end('{"plaintext":"QQ=="}');
    const error = await t.throwsAsync(kms.decrypt(DATA), { instanceOf: KmsError });
    t.is(error?.code, 'STORE_UNAVAILABLE');
    t.regex(error?.message ?? '', /redirect/);
  }
  t.deepEqual([fake.asked.length, other.connections], [5, 0]);
});

test('items of a batch fail alone over HTTP', async (t) => {
  const fake = await FakeHttp.on(t);
  const failed = { error: { code: 'AUTHENTICATION_FAILED', message: 'decryption failed' } };
  fake.onRequest = (response) => response.end(JSON.stringify({ results: [{ plaintext: wrapped }, failed] }));
  const [one, two] = await (await fake.client(t)).decryptMany(KEY, [DATA, DATA]);
  t.deepEqual(one, WRAPPED);
  t.true(two instanceof KmsError && two.code === 'AUTHENTICATION_FAILED');
});

test('a server that runs as a uid that is not trusted is sent not a byte over HTTP', async (t) => {
  const { seen, path } = await listener(t, (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'));
  const trust = { isGiven: false };
  const channel = new Channel({
    place: { path },
    trusts: () => trust.isGiven,
    peerOf: () => ({ uid: 4242 }),
    widen: () => {},
    sendNow: () => 0,
    connectTimeoutMs: 60_000,
    prefix: '',
    authorization: 'Bearer abc',
    deadlineMs: 60_000,
    maxSockets: 4,
    maxInFlight: 10,
    maxQueuedBytes: 1024,
    journal: undefined,
  });
  const kms = new HttpKms(channel);
  t.teardown(() => kms.close());
  const error = await t.throwsAsync(kms.reach(), { instanceOf: KmsError });
  t.is(error?.code, 'PERMISSION_DENIED');
  t.regex(error?.message ?? '', /4242/);
  await until(() => seen.connections === 1);
  t.is(seen.bytes, 0);
  trust.isGiven = true;
  await t.notThrowsAsync(kms.reach());
  t.true(seen.bytes > 0, 'bytes would have been seen');
});

test('whoever answers without being a key service is not connected to', async (t) => {
  const cases: Array<[string, ErrorCode]> = [
    ['HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>', 'STORE_UNAVAILABLE'],
    ['HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n', 'UNSUPPORTED'],
    ['SSH-2.0-OpenSSH\r\n', 'STORE_UNAVAILABLE'],
  ];
  for (const [said, code] of cases) {
    const { path } = await listener(t, (socket) => socket.end(said));
    t.is((await t.throwsAsync(connectKms(`http+unix://${path}`), { instanceOf: KmsError }))?.code, code, said);
  }
  const sealed = '{"error":{"code":"SEALED","message":"the key service is sealed"}}';
  const { path } = await listener(t, (socket) =>
    socket.end(`HTTP/1.1 503 Unavailable\r\nContent-Length: ${sealed.length}\r\n\r\n${sealed}`),
  );
  const kms = await connectKms(`http+unix://${path}`);
  t.true(kms instanceof HttpKms, 'a sealed one can be unsealed');
  await kms.close();
  const error = await t.throwsAsync(connectKms('http+unix:///nonexistent/kms.sock'), { instanceOf: KmsError });
  t.regex(
    error?.message ?? '',
    /^the key store is unavailable: cannot connect to the key service at \/nonexistent\/kms.sock: ENOENT$/,
  );
});
