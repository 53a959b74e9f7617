import { createHash, createHmac, hkdfSync, randomBytes } from 'node:crypto';
import test from 'ava';
import type { KmsError } from '../../dist/errors.js';
import { lp } from '../../dist/store/canonical.js';
import { Vault } from '../../dist/vault.js';

const ARENA = { arenaBytes: 1 << 20, keptContexts: 0 };
const STORE = 'ab'.repeat(16);
const INFO = lp(['test/v1']);
const NONE = new Uint8Array(0);

const own = (text: string) => Uint8Array.from(Buffer.from(text, 'latin1'));
const secretOf = (groupId: bigint | string, key: string) =>
  Buffer.from(`{"group_id":${groupId},"key":"${key}"}`).toString('base64');
const codeOf = (t: { throws: (work: () => unknown) => unknown }, work: () => unknown) => (t.throws(work) as KmsError).code;

test('a new secret has the documented form, is another one each time, and leads back to its database', (t) => {
  const vault = Vault.open(ARENA, 1);
  t.teardown(() => vault.close());
  const made = Array.from({ length: 50 }, () => vault.newDatabaseSecret(STORE));
  t.is(new Set(made.map(({ databaseId }) => databaseId)).size, 50);
  for (const { half, databaseId, secret } of made) {
    const text = Buffer.from(secret).toString('latin1');
    t.regex(Buffer.from(text, 'base64').toString(), /^\{"group_id":(0|[1-9]\d{0,38}),"key":"[0-9a-f]{64}"\}$/);
    t.is(Buffer.from(text, 'base64').toString('base64'), text);
    const read = vault.readDatabaseSecret(STORE, secret);
    t.is(read.databaseId, databaseId);
    t.true(vault.isSame(half, read.half));
    t.deepEqual([...secret], new Array(secret.length).fill(0), 'it is wiped');
  }
});

test('a database is named by the hash of its store and group id, as documented', (t) => {
  const vault = Vault.open(ARENA, 1);
  t.teardown(() => vault.close());
  const groupId = 314847543958936299966858165714194259652n;
  const { databaseId } = vault.readDatabaseSecret(STORE, own(secretOf(groupId, '3d'.repeat(32))));
  const named = lp(['progressdb-kms/database-id/v1', STORE, Buffer.from(groupId.toString(16).padStart(32, '0'), 'hex')]);
  t.is(databaseId, createHash('sha256').update(named).digest('hex').slice(0, 32));
  const other = vault.readDatabaseSecret('cd'.repeat(16), own(secretOf(groupId, '3d'.repeat(32))));
  t.not(other.databaseId, databaseId, 'in another store it is another one');
});

test('what is no secret is refused, wiped, and leaves nothing in the vault', (t) => {
  const vault = Vault.open(ARENA, 1);
  t.teardown(() => vault.close());
  for (const text of [
    '',
    'x',
    'AAAA',
    secretOf(1n << 128n, '3d'.repeat(32)),
    secretOf('7', '3D'.repeat(32)),
    'A'.repeat(100_000),
  ]) {
    const secret = own(text);
    t.is(
      codeOf(t, () => vault.readDatabaseSecret(STORE, secret)),
      'INVALID_ARGUMENT',
    );
    t.true(secret.every((byte) => byte === 0));
  }
});

test('both halves make one key by HKDF as documented, and a half is for nothing else', (t) => {
  const vault = Vault.open(ARENA, 1);
  t.teardown(() => vault.close());
  const { half } = vault.readDatabaseSecret(STORE, own(secretOf('7', '3d'.repeat(32))));
  const { half: share } = vault.readDatabaseSecret(STORE, own(secretOf('8', '4e'.repeat(32))));
  const joined = vault.join(half, share, INFO);
  const mac = vault.derive(joined, NONE, 'mac', 'mac');
  const [secretBytes, shareBytes] = [Buffer.alloc(32, 0x3d), Buffer.alloc(32, 0x4e)];
  const expected = Buffer.from(
    hkdfSync('sha256', Buffer.from(hkdfSync('sha256', secretBytes, shareBytes, INFO, 32)), NONE, 'mac', 32),
  );
  t.deepEqual(Buffer.from(vault.mac(mac, INFO)), createHmac('sha256', expected).update(INFO).digest());
  t.false(vault.isSame(joined, vault.join(share, half, INFO)), 'the order counts');
  t.is(
    codeOf(t, () => vault.derive(half, NONE, 'x', 'mac')),
    'INVALID_ARGUMENT',
  );
  t.is(
    codeOf(t, () => vault.sealDocument(half, INFO, NONE, NONE)),
    'INVALID_ARGUMENT',
  );
  t.is(
    codeOf(t, () => vault.join(joined, share, INFO)),
    'INVALID_ARGUMENT',
  );
  t.is(
    codeOf(t, () => vault.mac(half, INFO)),
    'INVALID_ARGUMENT',
  );
});

test('a document opens under its key, info and AAD, and under nothing else', (t) => {
  const vault = Vault.open(ARENA, 1);
  t.teardown(() => vault.close());
  const [key, other, kek] = [vault.generate('root'), vault.generate('root'), vault.generate('kek')];
  for (const length of [0, 1, 100, 4_096]) {
    const document = randomBytes(length);
    const sealed = vault.sealDocument(key, INFO, own('aad'), document);
    t.is(sealed.length, length + 28);
    t.deepEqual(Buffer.from(vault.openDocument(key, INFO, own('aad'), sealed)), document);
    t.notDeepEqual(vault.sealDocument(key, INFO, own('aad'), document), sealed, 'a fresh nonce each time');
    const wrong: Array<() => unknown> = [
      () => vault.openDocument(other, INFO, own('aad'), sealed),
      () => vault.openDocument(key, lp(['test/v2']), own('aad'), sealed),
      () => vault.openDocument(key, INFO, own('aae'), sealed),
      () => vault.openDocument(key, INFO, own('aad'), sealed.slice(1)),
      () =>
        vault.openDocument(
          key,
          INFO,
          own('aad'),
          sealed.map((byte, at) => (at === length ? byte ^ 1 : byte)),
        ),
    ];
    for (const work of wrong) t.is(codeOf(t, work), 'AUTHENTICATION_FAILED');
  }
  t.notThrows(() => vault.sealDocument(kek, INFO, NONE, NONE));
  t.is(
    codeOf(t, () => vault.sealDocument(key, INFO, NONE, new Uint8Array(4_097))),
    'TOO_LARGE',
  );
  for (const kind of ['mac', 'dek', 'master'] as const) {
    t.is(
      codeOf(t, () => vault.sealDocument(vault.generate(kind), INFO, NONE, NONE)),
      'INVALID_ARGUMENT',
      kind,
    );
  }
});

test('a full arena takes its room from who has the most keys, not from who comes with a first one', (t) => {
  const crowded = Vault.open(ARENA, 1_000_000);
  t.teardown(() => crowded.close());
  for (let index = 0; ; index += 1) {
    const before = crowded.cachedKeys;
    crowded.publish(crowded.generate('dek'), `k_${index}`, 1, 0);
    if (crowded.cachedKeys === before) break;
  }
  const small = Vault.open(ARENA, 100);
  t.teardown(() => small.close());
  const held: number[] = [];
  t.notThrows(() => {
    for (let index = 0; index < 5_000; index += 1) held.push(small.generate('root'));
  });
  t.true(crowded.cachedKeys > 0);
});
