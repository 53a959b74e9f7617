import { decode, encode } from '@msgpack/msgpack';
import test from 'ava';
import fc from 'fast-check';
import { ERROR_TABLE, type ErrorCode, KmsError } from '../../dist/errors.js';
import { OP, OPERATIONS } from '../../dist/wire/frames.js';
import {
  decodeAnswer,
  decodeRequest,
  descriptionOfMap,
  encodeAnswer,
  encodeError,
  encodeRequest,
  healthOfMap,
  keyMapOf,
  onlySlotOf,
  parseArguments,
  rotationMapOf,
  rotationOfMap,
  slotMapOf,
  slotsOfList,
  statusMapOf,
} from '../../dist/wire/messages.js';

const KEY = `k_${'0'.repeat(32)}`;
const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
const parameters = { seed, numRuns: 300 };
test.before((t) => t.log(`seed ${seed}`));

function bodyOf(frame: Buffer): Buffer {
  if (frame.readUInt32BE(0) !== frame.length - 4) throw new Error('the length does not match');
  return frame.subarray(4);
}

test('the operations stand at their own numbers under the names of the protocol', (t) => {
  t.is(OPERATIONS.length, Object.keys(OP).length);
  for (const [number, operation] of OPERATIONS.entries()) t.is(operation.op as number, number);
  for (const [name, op] of Object.entries(OP)) {
    t.is(
      OPERATIONS[op]!.name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase()),
      name,
    );
  }
});

const value: fc.Arbitrary<unknown> = fc.letrec((tie) => ({
  leaf: fc.oneof(
    fc.constant(null),
    fc.boolean(),
    fc.maxSafeInteger(),
    fc.string({ maxLength: 40 }),
    fc.uint8Array({ maxLength: 300 }),
    fc.double({ noNaN: true }),
  ),
  node: fc.oneof(
    { maxDepth: 2 },
    tie('leaf'),
    fc.array(tie('node'), { maxLength: 20 }),
    fc.dictionary(
      fc.string({ minLength: 1, maxLength: 8 }).filter((key) => key !== '__proto__'),
      tie('node'),
      { noNullPrototype: true },
    ),
  ),
})).node;

/** Buffers and Uint8Arrays, maps with and without a prototype, alike. */
function plain(given: unknown): unknown {
  if (given instanceof Uint8Array) return { bytes: Buffer.from(given).toString('hex') };
  if (Array.isArray(given)) return given.map(plain);
  if (typeof given === 'object' && given !== null) {
    return Object.fromEntries(Object.entries(given).map(([key, member]) => [key, plain(member)]));
  }
  return Object.is(given, -0) ? 0 : given;
}

test('whatever another encoder writes is read as what it meant', (t) => {
  fc.assert(
    fc.property(fc.nat(2 ** 31), fc.nat(17), fc.array(value, { maxLength: 5 }), (id, op, args) => {
      const request = decodeRequest(encode([id, op, ...args]));
      t.deepEqual({ ...request, args: plain(request.args) }, { id, op, args: plain(args) as unknown[] });
    }),
    parameters,
  );
});

test('whatever is written is read by another decoder as what was meant', (t) => {
  fc.assert(
    fc.property(fc.nat(2 ** 31), fc.array(value, { maxLength: 5 }), (id, results) => {
      t.deepEqual(plain(decode(bodyOf(encodeAnswer(id, results)))), plain([id, 0, ...results]));
    }),
    parameters,
  );
});

test('an id and an op are read in every integer encoding', (t) => {
  const sevens = [
    '07',
    'cc07',
    'cd0007',
    'ce00000007',
    'cf0000000000000007',
    'd007',
    'd10007',
    'd200000007',
    'd30000000000000007',
  ];
  for (const id of sevens) {
    for (const op of sevens) {
      const request = decodeRequest(Buffer.from(`92${id}${op}`, 'hex'));
      t.deepEqual(request, { id: 7, op: 7, args: [] });
    }
  }
});

test('a frame without a readable id, or that is not one MessagePack value, is refused whole', (t) => {
  const frames: Record<string, string> = {
    empty: '',
    'an empty array': '90',
    'no array': '07',
    'a map': '810102',
    'a negative id': '92ff02',
    'an id of 33 bits': '92cf000000010000000002',
    'an id that is a float': '92cb401c00000000000002',
    'a text for an id': '92a13702',
    'an extension for an id': '92d4000102',
    'two values': '92070207',
    'a cut array': '9307',
    'a cut text': '9307a5ab',
    'an array longer than any frame': 'ddffffffff07',
    'a map longer than any frame': '9307dfffffffff',
    'the byte that is never used': '930702c1',
    'a map with a number for a key': '930702810102',
    'a map with a key twice': '93070282a16101a16102',
    'a bomb of arrays': `9307${'91'.repeat(100)}c0`,
  };
  for (const [name, hex] of Object.entries(frames)) {
    const error = t.throws(() => decodeRequest(Buffer.from(hex, 'hex')), { instanceOf: KmsError }, name);
    t.is(error?.code, 'INVALID_ARGUMENT', name);
  }
});

test('no bytes at all make the reader throw anything but its own refusal', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.constantFrom('', '9207', '94070', '9307df'), (bytes, prefix) => {
      try {
        const { op, args } = decodeRequest(Buffer.concat([Buffer.from(prefix, 'hex'), bytes]));
        parseArguments(op, args);
      } catch (error) {
        t.true(error instanceof KmsError, String(error));
      }
    }),
    { ...parameters, numRuns: 3000 },
  );
  t.pass();
});

test('dates, record definitions, regular expressions and other extensions are refused in every position', (t) => {
  const extensions = ['d6ff00000000', 'd47240', 'c703000a0b0c', `d801${'00'.repeat(16)}`, 'c7037891a12e', 'd40000'];
  for (const extension of extensions) {
    for (const op of OPERATIONS) {
      const { id, args } = decodeRequest(Buffer.from(`9307${op.op.toString(16).padStart(2, '0')}${extension}`, 'hex'));
      t.is(id, 7);
      t.throws(() => parseArguments(op.op, args), { instanceOf: KmsError }, `${op.name} ${extension}`);
    }
    const { op, args } = decodeRequest(Buffer.from(`9207${extension}`, 'hex'));
    t.throws(() => parseArguments(op, args), { message: /op: an operation number/ });
  }
});

test('an operation that is not in the table is unsupported', (t) => {
  t.is(t.throws(() => parseArguments(OPERATIONS.length, []), { instanceOf: KmsError })?.code, 'UNSUPPORTED');
});

const bytes = Buffer.from('data');
const HEX = '0123456789abcdefABCDEF0123456789'.repeat(2);
const SLOT = `s_${'0'.repeat(32)}`;
const good: Array<[number, unknown[], object]> = [
  [OP.hello, [1, null], { version: 1, token: undefined }],
  [OP.createDekForThread, ['a/b:c@d.e-f_G'], { threadId: 'a/b:c@d.e-f_G' }],
  [OP.encrypt, [null, bytes, null], { keyId: undefined, data: bytes, aad: undefined }],
  [OP.decrypt, [KEY, bytes, bytes], { keyId: KEY, data: bytes, aad: bytes }],
  [OP.encryptMany, [KEY, [bytes, bytes], [null, bytes]], { keyId: KEY, items: [bytes, bytes], aad: [undefined, bytes] }],
  [OP.decryptMany, [KEY, [], null], { keyId: KEY, items: [], aad: undefined }],
  [OP.getWrapped, [KEY], { keyId: KEY }],
  [OP.rewrap, [KEY, null], { keyId: KEY, newKekHex: undefined }],
  [OP.rewrap, [KEY, HEX], { keyId: KEY, newKekHex: HEX }],
  [OP.rotateKek, [{}], { options: {} }],
  [OP.rotateKek, [{ wait: true, new_kek_hex: HEX }], { options: { wait: true, newKekHex: HEX } }],
  [
    OP.rotateKek,
    [{ new_master_key_file: '/k', dry_run: false, keys_per_second: 0, abandon: [KEY] }],
    { options: { newMasterKeyFile: '/k', dryRun: false, keysPerSecond: 0, abandon: [KEY] } },
  ],
  [OP.rotationStatus, [], {}],
  [OP.status, [], {}],
  [OP.createDek, [null], { label: undefined }],
  [OP.createDek, ['label'], { label: 'label' }],
  [OP.listKeys, [{ thread_id: 't', limit: 5 }], { query: { threadId: 't', limit: 5 } }],
  [OP.describeKey, [KEY], { keyId: KEY }],
  [OP.setKeyState, [KEY, 'disabled'], { keyId: KEY, state: 'disabled' }],
  [OP.openDatabase, [bytes], { secret: bytes }],
  [OP.seal, [], {}],
  [OP.unseal, [], {}],
  [OP.backup, [{ path: '/b' }], { order: { path: '/b' } }],
  [OP.backup, [{ path: '/b', skip_damaged: true }], { order: { path: '/b', skipDamaged: true } }],
  [OP.slots, [{ action: 'list' }], { action: 'list' }],
  [OP.slots, [{ action: 'add', new_kek_hex: HEX }], { action: 'add', slot: { keyHex: HEX } }],
  [
    OP.slots,
    [{ action: 'add', new_master_key_file: '/k', kind: 'recovery' }],
    { action: 'add', slot: { masterKeyFile: '/k', kind: 'recovery' } },
  ],
  [OP.slots, [{ action: 'remove', slot_id: SLOT }], { action: 'remove', slotId: SLOT }],
];

for (const [op, args, values] of good) {
  test(`${OPERATIONS[op]!.name} with ${JSON.stringify(args.map((arg) => (Buffer.isBuffer(arg) ? 'bin' : arg)))} is taken`, (t) => {
    t.deepEqual(parseArguments(op, args), { op, ...values } as never);
    const request = decodeRequest(bodyOf(encodeRequest(9, op, args)));
    t.deepEqual(plain(parseArguments(request.op, request.args)), plain({ op, ...values }));
  });
}

test('an argument too many or too few is refused', (t) => {
  for (const [op, args] of good) {
    t.throws(() => parseArguments(op, [...args, null]), { message: /invalid argument: arguments: / });
    if (args.length > 0) t.throws(() => parseArguments(op, args.slice(1)), { instanceOf: KmsError });
  }
});

const bad: Array<[string, number, unknown[], string, ErrorCode?]> = [
  ['a token that is a number', OP.hello, [1, 5], 'token'],
  ['a version below zero', OP.hello, [-1, null], 'protocol_version'],
  ['an empty thread id', OP.createDekForThread, [''], 'thread_id'],
  ['a thread id with a line end', OP.createDekForThread, ['a\n'], 'thread_id'],
  ['a thread id that is a binary', OP.createDekForThread, [bytes], 'thread_id'],
  ['a key id that climbs out', OP.encrypt, ['k_../../x', bytes, null], 'key_id'],
  ['a plaintext that is a str', OP.encrypt, [KEY, 'data', null], 'plaintext'],
  ['a ciphertext that is nil', OP.decrypt, [KEY, null, null], 'ciphertext'],
  ['an AAD that is a str', OP.encrypt, [KEY, bytes, 'aad'], 'aad'],
  ['an AAD above its limit', OP.encrypt, [KEY, bytes, new Uint8Array(65_537)], 'aad', 'TOO_LARGE'],
  ['a plaintext above its limit', OP.encrypt, [KEY, new Uint8Array(15 * 1024 * 1024 + 1), null], 'plaintext', 'TOO_LARGE'],
  ['a batch of too many', OP.encryptMany, [KEY, new Array(65_537).fill(bytes), null], 'plaintexts', 'TOO_LARGE'],
  ['a batch without a key', OP.encryptMany, [null, [bytes], null], 'key_id'],
  ['a batch with another number of AADs', OP.encryptMany, [KEY, [bytes], []], 'aad'],
  ['a state of its own making', OP.setKeyState, [KEY, 'gone'], 'state'],
  ['options that are a list', OP.rotateKek, [[]], 'options'],
  ['an option nobody knows', OP.rotateKek, [{ dryrun: true }], 'options'],
  ['a new key of 63 digits', OP.rotateKek, [{ new_kek_hex: HEX.slice(1) }], 'new_kek_hex'],
  ['a new key for a rewrap that is no hex', OP.rewrap, [KEY, `g${HEX.slice(1)}`], 'new_kek_hex'],
  ['a new key that is a binary', OP.rewrap, [KEY, bytes], 'new_kek_hex'],
  ['two new keys', OP.rotateKek, [{ new_kek_hex: HEX, new_master_key_file: '/k' }], 'new_kek_hex'],
  ['a key file that is somewhere', OP.rotateKek, [{ new_master_key_file: 'k' }], 'new_master_key_file'],
  ['a key file with a zero in its name', OP.rotateKek, [{ new_master_key_file: '/k\0' }], 'new_master_key_file'],
  ['a dry run that is a text', OP.rotateKek, [{ dry_run: 'no' }], 'dry_run'],
  ['a nil for what is not given', OP.rotateKek, [{ wait: null }], 'wait'],
  ['a throttle below zero', OP.rotateKek, [{ keys_per_second: -1 }], 'keys_per_second'],
  ['one key to abandon that is no list', OP.rotateKek, [{ abandon: KEY }], 'abandon'],
  ['a key to abandon that is none', OP.rotateKek, [{ abandon: ['../x'] }], 'abandon'],
  ['too many keys to abandon', OP.rotateKek, [{ abandon: Array(1_001).fill(KEY) }], 'abandon', 'TOO_LARGE'],
  ['a backup that is nowhere', OP.backup, [{}], 'path'],
  ['a backup that is somewhere', OP.backup, [{ path: 'b' }], 'path'],
  ['a backup with a zero in its name', OP.backup, [{ path: '/b\0' }], 'path'],
  ['a backup that skips by a number', OP.backup, [{ path: '/b', skip_damaged: 1 }], 'skip_damaged'],
  ['a backup with more than is known', OP.backup, [{ path: '/b', force: true }], 'request'],
  ['an action of its own making', OP.slots, [{ action: 'open' }], 'action'],
  ['no action', OP.slots, [{}], 'action'],
  ['a slot to add without a key', OP.slots, [{ action: 'add' }], 'new_master_key_file'],
  ['a slot to add with two keys', OP.slots, [{ action: 'add', new_kek_hex: HEX, new_master_key_file: '/k' }], 'new_kek_hex'],
  ['a slot of another kind', OP.slots, [{ action: 'add', new_kek_hex: HEX, kind: 'spare' }], 'kind'],
  ['a slot to remove that is none', OP.slots, [{ action: 'remove', slot_id: 's_1' }], 'slot_id'],
  ['a slot to remove that is not named', OP.slots, [{ action: 'remove' }], 'slot_id'],
  ['a member that is for another action', OP.slots, [{ action: 'list', slot_id: SLOT }], 'request'],
  ['a query with a limit of 0', OP.listKeys, [{ limit: 0 }], 'limit'],
  ['a query with a limit of 1001', OP.listKeys, [{ limit: 1001 }], 'limit'],
  ['a query with a member nobody knows', OP.listKeys, [{ treasure: 1 }], 'query'],
];

for (const [name, op, args, argument, code] of bad) {
  test(`${name} is refused by the argument's name`, (t) => {
    const error = t.throws(() => parseArguments(op, args), { instanceOf: KmsError });
    t.is(error?.code, code ?? 'INVALID_ARGUMENT');
    t.true(error?.message.includes(`: ${argument}: `), error?.message);
  });
}

test('every error of the table arrives as it was sent', (t) => {
  for (const code of Object.keys(ERROR_TABLE) as ErrorCode[]) {
    for (const detail of [undefined, 'why']) {
      const sent = new KmsError(code, detail);
      const { id, error } = decodeAnswer(bodyOf(encodeError(5, sent)));
      t.is(id, 5);
      t.is(error?.code, code);
      t.is(error?.message, sent.message);
    }
  }
});

test('a key and a status keep their values on the way, numbers above 32 bits included', (t) => {
  const key = {
    keyId: KEY,
    threadId: null,
    alg: 'A256GCM' as const,
    state: 'disabled' as const,
    version: 2 ** 40,
    kekId: 'kek_1',
    kekVersion: '3',
    usesReserved: 2 ** 32,
    createdAt: '2026-01-31T12:00:00.000Z',
    updatedAt: '2026-01-31T12:00:00.001Z',
    createdBy: 'uid:0',
  };
  const health = {
    status: 'degraded' as const,
    protection: 'mlock' as const,
    auditFault: 'no space left',
    storeFault: 'EIO',
    damagedRecords: [{ keyId: KEY, reason: 'its MAC' }],
    keysNearLimit: [KEY],
  };
  const process = {
    version: '1',
    pid: 9,
    uptimeMs: 2 ** 33 + 0.5,
    connections: 1,
    cachedKeys: 2,
    dataDir: '/d',
    keys: undefined,
  };
  const frame = bodyOf(encodeAnswer(1, [keyMapOf(key), statusMapOf(health, process)]));
  const { results } = decodeAnswer(frame);
  t.deepEqual(descriptionOfMap(results[0]), key);
  t.deepEqual(healthOfMap(results[1]), health);
  t.is((results[1] as Record<string, unknown>)['uptime_ms'], 2 ** 33);
  // A float would not be a `uint` to a client in another language.
  t.false(frame.includes(Buffer.concat([Buffer.from('uptime_ms'), Buffer.from([0xcb])])));
});

test('a key map with a member missing or of another type is refused by name', (t) => {
  const map = { key_id: KEY, thread_id: null, alg: 'A256GCM', state: 'active', version: 1, kek_id: 'k', kek_version: '1' };
  t.throws(() => descriptionOfMap(map), { message: /uses_reserved/ });
  t.throws(() => descriptionOfMap({ ...map, state: 'odd' }), { message: /state/ });
  t.throws(() => descriptionOfMap(null), { message: /key_id/ });
});

test('a new key is never repeated, whatever is wrong with it', (t) => {
  const spoilt = [`${HEX}0`, HEX.slice(1), `x${HEX.slice(1)}`, `/${HEX}\0`];
  for (const text of spoilt) {
    const calls: Array<[number, unknown[]]> = [
      [OP.rewrap, [KEY, text]],
      [OP.rotateKek, [{ new_kek_hex: text }]],
      [OP.rotateKek, [{ new_master_key_file: text }]],
      [OP.rotateKek, [{ [text]: true }]],
      [OP.rotateKek, [{ abandon: [text] }]],
      [OP.slots, [{ action: 'add', new_kek_hex: text }]],
      [OP.slots, [{ action: 'add', new_master_key_file: text }]],
      [OP.slots, [{ action: 'remove', slot_id: text }]],
      [OP.slots, [{ action: text }]],
    ];
    for (const [op, args] of calls) {
      const error = t.throws(() => parseArguments(op, args), { instanceOf: KmsError });
      t.false(error!.message.includes(text.slice(2, 40)), error!.message);
    }
  }
});

test('a rotation and a slot keep their values on the way', (t) => {
  const status = {
    state: 'blocked' as const,
    rotationId: 'r2-0123456789abcdef',
    phase: 'verify' as const,
    kekId: 'kek_2',
    kekVersion: '2',
    total: 2 ** 33,
    done: 5,
    keysPerSecond: 100,
    secondsLeft: 2 ** 34,
    startedAt: '2026-01-31T12:00:00.000Z',
    finishedAt: null,
    blockedBy: [{ keyId: KEY, reason: 'its MAC' }],
    error: null,
    due: 'age',
  };
  const idle = {
    ...status,
    state: 'idle' as const,
    rotationId: null,
    phase: null,
    secondsLeft: null,
    startedAt: null,
    blockedBy: [],
  };
  const slot = { slotId: SLOT, kind: 'master' as const, state: 'pending' as const, createdAt: 'c', expiresAt: null, inUse: true };
  const frame = bodyOf(encodeAnswer(1, [rotationMapOf(status), rotationMapOf(idle), [slotMapOf(slot)]]));
  const { results } = decodeAnswer(frame);
  t.deepEqual(rotationOfMap(results[0]), status);
  t.deepEqual(rotationOfMap(results[1]), idle);
  t.deepEqual(slotsOfList(results[2]), [slot]);
  t.false(frame.includes(Buffer.concat([Buffer.from('total'), Buffer.from([0xcb])])));
});

test('a rotation or slot with a member missing or of another type is refused by name', (t) => {
  t.throws(() => rotationOfMap({ state: 'idle' }), { message: /rotation_id/ });
  t.throws(() => rotationOfMap({ state: 'odd' }), { message: /state/ });
  t.throws(() => slotsOfList([{ slot_id: SLOT, in_use: true }]), { message: /kind/ });
  t.throws(() => slotsOfList([{ slot_id: SLOT }]), { message: /in_use/ });
  t.throws(() => slotsOfList({}), { message: /slots/ });
  t.throws(() => onlySlotOf([]), { message: /slot/ });
});
