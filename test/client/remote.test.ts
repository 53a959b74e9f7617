import test, { type ExecutionContext } from 'ava';
import { Inbox } from '../../dist/client/inbox.js';
import { Outbox } from '../../dist/client/outbox.js';
import type { RemoteKms } from '../../dist/client/remote.js';
import { KIND, SlotTable } from '../../dist/client/slots.js';
import { KmsError } from '../../dist/errors.js';
import { BACKUP, BACKUP_MAP } from './backup-samples.js';
import { type FakeRequest, FakeServer } from './fake-server.js';
import { HEX, ROTATION, ROTATION_MAP, SLOT, SLOT_MAP } from './rotation-samples.js';

const KEY = `k_${'0'.repeat(32)}`;
const WRAPPED = new Uint8Array(60).fill(6);
const KEY_MAP = {
  key_id: KEY,
  thread_id: 'thread',
  alg: 'A256GCM',
  state: 'active',
  version: 2,
  kek_id: 'kek_1',
  kek_version: '1',
  uses_reserved: 1024,
  created_at: '2026-01-31T12:00:00.000Z',
  updated_at: '2026-01-31T12:00:00.000Z',
  created_by: 'uid:0',
};
const DESCRIPTION = {
  keyId: KEY,
  threadId: 'thread',
  alg: 'A256GCM',
  state: 'active',
  version: 2,
  kekId: 'kek_1',
  kekVersion: '1',
  usesReserved: 1024,
  createdAt: KEY_MAP.created_at,
  updatedAt: KEY_MAP.updated_at,
  createdBy: 'uid:0',
};
const STATUS = {
  status: 'sealed',
  version: '0.1.0',
  protection: 'mlock',
  pid: 1,
  uptime_ms: 5,
  store_fault: null,
  audit_fault: null,
  damaged_records: [{ key_id: KEY, reason: 'its MAC' }],
  keys_near_limit: [],
  connections: 1,
  cached_keys: 0,
  data_dir: '/d',
  a_member_of_a_later_version: true,
};
const CREATED = { keyId: KEY, wrapped: WRAPPED, kekId: 'kek_1', kekVersion: '1' };

/** The decoder of the fake server makes Buffers, which are not deeply equal to a Uint8Array. */
function unbuffered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(unbuffered);
  return value instanceof Uint8Array ? new Uint8Array(value) : value;
}

async function ask(
  t: ExecutionContext,
  call: (kms: RemoteKms) => Promise<unknown>,
  sent: unknown[],
  results: unknown[],
  expected: unknown,
): Promise<void> {
  const server = await new FakeServer().listen();
  const kms = server.client();
  let got: FakeRequest | undefined;
  server.onRequest = (request) => {
    got = request;
    request.answer(...results);
  };
  try {
    t.deepEqual((await call(kms)) as object, expected as object);
    t.deepEqual([got!.op, ...got!.args].map(unbuffered), sent);
  } finally {
    await kms.close();
    await server.remove();
  }
}

const calls: Array<[string, (kms: RemoteKms) => Promise<unknown>, unknown[], unknown[], unknown]> = [
  [
    'hello',
    (k) => k.hello(),
    [0, 1, null],
    [1, 'kms', 'mlock', false],
    { version: 1, server: 'kms', protection: 'mlock', sealed: false },
  ],
  ['createDekForThread', (k) => k.createDekForThread('t'), [1, 't'], [KEY, WRAPPED, 'kek_1', '1'], CREATED],
  ['createDek', (k) => k.createDek(), [11, null], [KEY, WRAPPED, 'kek_1', '1'], CREATED],
  ['createDek with a label', (k) => k.createDek('l'), [11, 'l'], [KEY, WRAPPED, 'kek_1', '1'], CREATED],
  ['getWrapped', (k) => k.getWrapped(KEY), [6, KEY], [WRAPPED], WRAPPED],
  ['rewrapDek', (k) => k.rewrapDek(KEY), [7, KEY, null], [WRAPPED, 'kek_1', '1'], CREATED],
  ['rewrapDek with a new key', (k) => k.rewrapDek(KEY, { newKekHex: HEX }), [7, KEY, HEX], [WRAPPED, 'kek_1', '1'], CREATED],
  ['rotateKek', (k) => k.rotateKek(), [8, {}], [ROTATION_MAP], ROTATION],
  [
    'rotateKek with options',
    (k) => k.rotateKek({ newMasterKeyFile: '/k', wait: true, dryRun: false, keysPerSecond: 5, abandon: [KEY], deadlineMs: 999 }),
    [8, { new_master_key_file: '/k', wait: true, dry_run: false, keys_per_second: 5, abandon: [KEY] }],
    [ROTATION_MAP],
    ROTATION,
  ],
  ['rotationStatus', (k) => k.rotationStatus(), [9], [ROTATION_MAP], ROTATION],
  ['backup', (k) => k.backup({ path: '/b' }), [19, { path: '/b' }], [BACKUP_MAP], BACKUP],
  ['slots', (k) => k.slots(), [18, { action: 'list' }], [[SLOT_MAP, SLOT_MAP]], [SLOT, SLOT]],
  [
    'addSlot with a file',
    (k) => k.addSlot({ masterKeyFile: '/k', kind: 'recovery' }),
    [18, { new_master_key_file: '/k', kind: 'recovery', action: 'add' }],
    [[SLOT_MAP]],
    SLOT,
  ],
  ['addSlot', (k) => k.addSlot({ keyHex: HEX }), [18, { new_kek_hex: HEX, action: 'add' }], [[SLOT_MAP]], SLOT],
  ['removeSlot', (k) => k.removeSlot(SLOT.slotId), [18, { action: 'remove', slot_id: SLOT.slotId }], [[SLOT_MAP]], undefined],
  ['listKeys', (k) => k.listKeys(), [12, {}], [[KEY_MAP], null], { keys: [DESCRIPTION], next: null }],
  [
    'listKeys with a query',
    (k) => k.listKeys({ threadId: 't', cursor: 'c', limit: 5 }),
    [12, { thread_id: 't', cursor: 'c', limit: 5 }],
    [[], 'next'],
    { keys: [], next: 'next' },
  ],
  ['describeKey', (k) => k.describeKey(KEY), [13, KEY], [KEY_MAP], DESCRIPTION],
  ['disableKey', (k) => k.disableKey(KEY), [14, KEY, 'disabled'], [KEY_MAP], DESCRIPTION],
  ['enableKey', (k) => k.enableKey(KEY), [14, KEY, 'active'], [KEY_MAP], DESCRIPTION],
  ['destroyKey', (k) => k.destroyKey(KEY), [14, KEY, 'destroyed'], [KEY_MAP], DESCRIPTION],
  ['status', (k) => k.status(), [10], [STATUS], STATUS],
  [
    'health',
    (k) => k.health(),
    [10],
    [STATUS],
    {
      status: 'sealed',
      protection: 'mlock',
      storeFault: null,
      auditFault: null,
      damagedRecords: [{ keyId: KEY, reason: 'its MAC' }],
      keysNearLimit: [],
    },
  ],
  ['seal', (k) => k.seal(), [16], [], undefined],
  ['unseal', (k) => k.unseal(), [17], [], undefined],
  ['encrypt', (k) => k.encrypt(WRAPPED), [2, null, WRAPPED, null], [WRAPPED, '3'], WRAPPED],
  ['decrypt', (k) => k.decrypt(WRAPPED, WRAPPED), [3, null, WRAPPED, WRAPPED], [WRAPPED], WRAPPED],
  ['encryptMany', (k) => k.encryptMany(KEY, [WRAPPED], [undefined]), [4, KEY, [WRAPPED], [null]], [[WRAPPED]], [WRAPPED]],
];
for (const [name, call, sent, results, expected] of calls) {
  test(`${name} asks what the protocol says and gives what the provider promises`, (t) => ask(t, call, sent, results, expected));
}

test('a batch keeps its order and tells of each item that failed', async (t) => {
  const server = await new FakeServer().listen();
  const kms = server.client();
  server.onRequest = (request) => request.answer([WRAPPED, [2, 'decryption failed'], new Uint8Array()]);
  const results = await kms.decryptMany(KEY, [WRAPPED, WRAPPED, WRAPPED], WRAPPED);
  t.deepEqual(results[0], WRAPPED);
  t.true(results[1] instanceof KmsError && results[1].code === 'AUTHENTICATION_FAILED');
  t.deepEqual(results[2], new Uint8Array());
  await t.throwsAsync(kms.decryptMany(KEY, [WRAPPED]), { message: /another number of items/ });
  await kms.close();
  await server.remove();
});

test('a refusal by the server arrives with its code, and the connection goes on', async (t) => {
  const server = await new FakeServer().listen();
  const kms = server.client();
  server.onRequest = (request) => request.fail(1, `no such key: ${KEY}`);
  for (const call of [kms.describeKey(KEY), kms.encryptWithDek(KEY, WRAPPED), kms.encryptMany(KEY, [WRAPPED])]) {
    const error = await t.throwsAsync(call as Promise<unknown>, { instanceOf: KmsError });
    t.deepEqual([error?.code, error?.message], ['KEY_NOT_FOUND', `no such key: ${KEY}`]);
  }
  t.is(server.connections, 1);
  await kms.close();
  await server.remove();
});

test('arguments that cannot be right are refused without a request, as rejections', async (t) => {
  const server = await new FakeServer().listen();
  const kms = server.client();
  const wrong: Array<() => Promise<unknown>> = [
    () => kms.encryptWithDek('../x', WRAPPED),
    () => kms.decryptWithDek(KEY, 'text' as unknown as Uint8Array),
    () => kms.encrypt(undefined as unknown as Uint8Array),
    () => kms.encryptMany(KEY, [WRAPPED], []),
    () => kms.encryptMany(KEY, ['text' as unknown as Uint8Array]),
    () => kms.createDekForThread(''),
    () => kms.describeKey('k_'),
    () => kms.disableKey(7 as unknown as string),
    () => kms.listKeys({ limit: 0 }),
  ];
  for (const call of wrong) {
    const error = await t.throwsAsync(call(), { instanceOf: KmsError }, String(call));
    t.is(error?.code, 'INVALID_ARGUMENT', String(call));
  }
  t.is(server.requests.length, 0);
  await kms.close();
  await server.remove();
});

test('no id is used twice before all generations of its slot are through, and never that of unreadable requests', (t) => {
  const slots = new SlotTable(1);
  const seen = new Set<number>();
  for (let round = 0; round < 65_535; round++) {
    const slot = slots.take()!;
    slot.kind = KIND.results;
    seen.add(slot.id);
    t.is(slots.take(), undefined);
    slots.release(slot);
    if (slots.find(slot.id) !== undefined) t.fail('a free slot was found');
  }
  t.is(seen.size, 65_535);
  t.false(seen.has(0));
});

test('plaintext is gone from a slab when it has been written or dropped', (t) => {
  const outbox = new Outbox();
  const fill = (id: number) => {
    const slab = outbox.reserve(20);
    slab.bytes.writeUInt32BE(16, slab.used);
    slab.bytes.fill(id, slab.used + 4, slab.used + 20);
    outbox.commit(slab, slab.used + 20, true);
    return slab;
  };
  const slab = fill(1);
  fill(2);
  fill(3);
  t.true(slab.bytes.subarray(0, 60).includes(2));
  outbox.retain((bytes, start) => bytes[start + 4] !== 2);
  t.is(outbox.bytes, 40);
  t.false(slab.bytes.subarray(0, 60).includes(2));
  t.true(slab.bytes.subarray(20, 40).includes(3));
  const taken = outbox.take();
  t.deepEqual([taken.length, taken[0]!.used, outbox.isEmpty], [1, 40, true]);
  outbox.recycle(taken);
  t.true(slab.bytes.subarray(0, 60).every((byte) => byte === 0));
  t.is(outbox.bytes, 0);
});

test('an unfinished frame is wiped when its connection ends', (t) => {
  const inbox = new Inbox();
  const frames: Buffer[] = [];
  inbox.push(Buffer.from('00000001aa000000097365637265', 'hex'), (slab, start, end) => frames.push(slab.subarray(start, end)));
  t.deepEqual(
    frames.map((frame) => frame.toString('hex')),
    ['aa'],
  );
  // Only what was received: the slab's other bytes were never written.
  const memory = Buffer.from(frames[0]!.buffer, frames[0]!.byteOffset, 10);
  t.true(memory.includes('secre'));
  inbox.clear();
  t.false(memory.includes('secre'));
  t.is(frames[0]!.toString('hex'), 'aa');
});
