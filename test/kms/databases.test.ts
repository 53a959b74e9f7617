import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { KmsError } from '../../dist/errors.js';
import type { DatabaseKms } from '../../dist/kms/databases/database-kms.js';
import { Databases } from '../../dist/kms/databases/databases.js';
import type { OpenDatabase } from '../../dist/kms/databases/open-database.js';
import { binding } from '../../dist/native.js';
import { openMemoryStore } from '../../dist/store/memory.js';
import { refused } from '../provider/refused.js';
import { newPlace, openAt } from '../provider/subjects.js';
import { countedIn, documentsIn, madeIn, openedIn, partsOf, secretBytes, secretOf } from './databases.js';
import { K1, openOn } from './stores.js';

const PLAIN = Buffer.from('of one tenant');

test('each call makes one more database, and keys of one are unknown in another and outside', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1);
  const [first, second] = [await openedIn(t, kms, await madeIn(kms)), await openedIn(t, kms, await madeIn(kms))];
  t.not(first.databaseId, second.databaseId);
  t.is((await store.sealed.list('', undefined, 10)).length, 2);
  const places = { first, second, outside: kms };
  const made = new Map<string, { keyId: string; ciphertext: Uint8Array }>();
  for (const [name, place] of Object.entries(places)) {
    const { keyId } = await place.createDekForThread(`thread of ${name}`.replaceAll(' ', '-'));
    made.set(name, { keyId, ciphertext: (await place.encryptWithDek(keyId, PLAIN)).ciphertext });
  }
  for (const [owner, { keyId, ciphertext }] of made) {
    for (const [name, place] of Object.entries(places)) {
      if (name === owner) {
        t.deepEqual(Buffer.from(await place.decryptWithDek(keyId, ciphertext)), PLAIN);
        continue;
      }
      await refused(t, place.decryptWithDek(keyId, ciphertext), 'KEY_NOT_FOUND', undefined, `${owner} in ${name}`);
      await refused(t, place.encryptWithDek(keyId, PLAIN), 'KEY_NOT_FOUND', undefined, `${owner} in ${name}`);
      await refused(t, place.describeKey(keyId), 'KEY_NOT_FOUND', undefined, `${owner} in ${name}`);
      await refused(t, place.setKeyState(keyId, 'disabled'), 'KEY_NOT_FOUND', undefined, `${owner} in ${name}`);
      t.is(binding.findKey(place.space, keyId), 0, 'a cached key is of its own space alone');
      t.false((await place.listKeys()).keys.some((key) => key.keyId === keyId));
    }
  }
});

test.serial('openers share one space, and the last of them takes its keys with it', async (t) => {
  const kms = await openOn(t, openMemoryStore(), K1);
  const secret = await madeIn(kms);
  const before = binding.arenaInfo().used;
  const [one, two] = [await openedIn(t, kms, secret), await openedIn(t, kms, secret)];
  t.is(one.space, two.space);
  const { keyId } = await one.createDek();
  const { ciphertext } = await one.encryptWithDek(keyId, PLAIN);
  const { space } = one;
  t.not(binding.findKey(space, keyId), 0);
  one.leave();
  one.leave();
  t.deepEqual(Buffer.from(await two.decryptWithDek(keyId, ciphertext)), PLAIN, 'leaving twice is leaving once');
  await refused(t, one.decryptWithDek(keyId, ciphertext), 'SEALED', /closed/);
  const stays = two.again();
  two.leave();
  t.deepEqual(Buffer.from(await stays.decryptWithDek(keyId, ciphertext)), PLAIN);
  stays.leave();
  t.is(binding.findKey(space, keyId), 0);
  t.is(binding.arenaInfo().used, before, 'not a cell is left');
  t.deepEqual(Buffer.from(await (await openedIn(t, kms, secret)).decryptWithDek(keyId, ciphertext)), PLAIN);
});

test.serial('a wrong key, an unknown group and any other secret get one answer by the same steps', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1);
  const right = partsOf(await madeIn(kms));
  const otherKey = `${right.key.slice(0, -1)}${right.key.endsWith('0') ? '1' : '0'}`;
  const wrong = {
    'right group, wrong key': secretOf({ ...right, key: otherKey }),
    'unknown group, right key': secretOf({ ...right, groupId: '7' }),
    'unknown group, unknown key': secretOf({ groupId: '0', key: '0'.repeat(64) }),
  };
  const seen: unknown[] = [];
  for (const [about, secret] of Object.entries(wrong)) {
    let error: KmsError | undefined;
    const counts = await countedIn(store, async () => {
      error = await t.throwsAsync(kms.openDatabase(secretBytes(secret)), { instanceOf: KmsError }, about);
    });
    seen.push({ counts, code: error?.code, message: error?.message });
  }
  t.deepEqual(
    seen,
    Array(3).fill({
      counts: { readDatabaseSecret: 1, read: 1, macMatches: 1, unwrap: 1, join: 1, openDocument: 1 },
      code: 'UNAUTHENTICATED',
      message: 'not authenticated: the database secret opens nothing here',
    }),
  );
  const used = binding.arenaInfo().used;
  await t.throwsAsync(kms.openDatabase(secretBytes(wrong['right group, wrong key'])));
  t.is(binding.arenaInfo().used, used, 'nothing of a refused one stays');
});

test('what cannot be a secret is refused as such, and every secret that is given is wiped', async (t) => {
  const kms = await openOn(t, openMemoryStore(), K1);
  const secret = await madeIn(kms);
  for (const text of ['', 'x', 'A'.repeat(168), `${secret} `, secret.slice(0, -4), '"']) {
    const given = secretBytes(text);
    await refused(t, kms.openDatabase(given), 'INVALID_ARGUMENT', /database secret/, text);
    t.true(given.every((byte) => byte === 0));
  }
  await refused(t, () => kms.openDatabase('text' as unknown as Uint8Array), 'INVALID_ARGUMENT', /database secret/);
  for (const text of [secret, secretOf({ ...partsOf(secret), groupId: '1' })]) {
    const given = secretBytes(text);
    await kms.openDatabase(given).then(
      (database) => database.close(),
      () => {},
    );
    t.true(given.every((byte) => byte === 0));
  }
});

test('nothing of what is in a database stands in its documents, which are all equally long', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1);
  const secret = await madeIn(kms, 'uid:4711');
  const database = await openedIn(t, kms, secret);
  const longest = 'T'.repeat(256);
  const keyIds: string[] = [];
  for (const thread of ['t', longest, 'tenant/secret-name'])
    keyIds.push((await database.createDekForThread(thread, { actor: 'a'.repeat(64) })).keyId);
  keyIds.push((await database.createDek()).keyId);
  await database.disableKey(keyIds[0]!);
  await database.destroyKey(keyIds[0]!);
  await database.encrypt(PLAIN);
  const documents = await documentsIn(store);
  const inner = [...documents].filter(([name]) => name.includes('/'));
  t.is(inner.length, 6, 'five keys and what names the default one');
  t.deepEqual([...new Set(inner.map(([, document]) => document.length))], [1_024 + 28]);
  const all = Buffer.concat([...documents.values(), ...[...documents.keys()].map((name) => Buffer.from(name))]).toString(
    'latin1',
  );
  const { groupId, key } = partsOf(secret);
  const needles = [
    ...keyIds,
    ...keyIds.map((id) => id.slice(2)),
    longest.slice(0, 16),
    'tenant',
    'secret-name',
    'aaaaaaaa',
    'uid:4711',
    'A256GCM',
    'active',
    'destroyed',
    groupId,
    key,
    secret,
  ];
  for (const needle of needles) t.false(all.includes(needle), needle);
  t.true(all.includes(database.databaseId), 'what is looked for would be found');
});

test('a database is the same after a restart, with its default key, and counts uses on', async (t) => {
  const store = openMemoryStore();
  const first = await openOn(t, store, K1);
  const secret = await madeIn(first);
  const before = await openedIn(t, first, secret);
  const { keyId } = await before.createDekForThread('thread');
  const { ciphertext } = await before.encryptWithDek(keyId, PLAIN);
  const sealed = await before.encrypt(PLAIN);
  t.is((await before.listKeys({ threadId: 'thread' })).keys[0]?.usesReserved, 1_024);
  await first.close();
  await refused(t, before.describeKey(keyId), 'SEALED');
  const kms = await openOn(t, store, K1);
  const database = await openedIn(t, kms, secret);
  t.deepEqual(Buffer.from(await database.decryptWithDek(keyId, ciphertext)), PLAIN);
  t.deepEqual(Buffer.from(await database.decrypt(sealed)), PLAIN);
  t.deepEqual(Buffer.from(await database.decrypt(await database.encrypt(PLAIN))), PLAIN);
  t.is((await database.listKeys()).keys.length, 2, 'the default key of before is the default key');
  t.is((await database.describeKey(keyId)).usesReserved, 1, 'a clean stop gave back what was not used');
});

test('a seal closes all databases', async (t) => {
  const kms = await openOn(t, openMemoryStore(), K1);
  const secret = await madeIn(kms);
  const database = await kms.openDatabase(secretBytes(secret));
  const { keyId } = await database.createDek();
  const { space } = database;
  await kms.seal();
  t.false(database.isOpen);
  t.is(binding.findKey(space, keyId), 0);
  await refused(t, database.describeKey(keyId), 'SEALED');
  await refused(t, kms.openDatabase(secretBytes(secret)), 'SEALED');
  database.leave();
});

test('who is at its limit of databases or keys makes no more, and others go on', async (t) => {
  const kms = await openOn(t, openMemoryStore(), K1, { databasesPerIdentity: 2, keysPerDatabase: 3 });
  const made = await Promise.allSettled([1, 2, 3].map(() => madeIn(kms, 'uid:1')));
  t.is(made.filter(({ status }) => status === 'fulfilled').length, 2);
  await refused(t, kms.newDatabase({ actor: 'uid:1' }), 'PERMISSION_DENIED', /has made 2 databases/);
  const secret = await madeIn(kms, 'uid:2');
  const database = await openedIn(t, kms, secret);
  const keys = await Promise.allSettled([1, 2, 3, 4, 5].map(() => database.createDek()));
  t.is(keys.filter(({ status }) => status === 'fulfilled').length, 3);
  await refused(t, database.createDek(), 'PERMISSION_DENIED', /holds 3 keys/);
  database.leave();
  const again = await openedIn(t, kms, secret);
  await refused(t, again.createDek(), 'PERMISSION_DENIED', /holds 3 keys/);
  await t.notThrowsAsync((await openedIn(t, kms, await madeIn(kms, 'uid:2'))).createDek());
});

test('uses that are reserved and not used are gone on with by the next opener, and never counted twice', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1);
  const secret = await madeIn(kms);
  const use = async <T>(work: (database: DatabaseKms) => Promise<T>): Promise<T> => {
    const database = await kms.openDatabase(secretBytes(secret));
    try {
      return await work(database);
    } finally {
      database.leave();
    }
  };
  const { keyId } = await use((database) => database.createDek());
  const reserved = async () => (await use((database) => database.describeKey(keyId))).usesReserved;
  for (let times = 0; times < 1_024; times += 1) await use((database) => database.encryptWithDek(keyId, PLAIN));
  t.is(await reserved(), 1_024, 'the first block served all of them');
  await use((database) => database.encryptWithDek(keyId, PLAIN));
  t.true((await reserved()) > 1_024, 'and not one more');
});

test('what is known of databases without a secret is listed, and a dropped one is gone', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1);
  const secret = await madeIn(kms, 'uid:7');
  const database = await openedIn(t, kms, secret);
  const { keyId } = await database.createDek();
  const listed = async () => {
    const all = [];
    for await (const one of kms.databases()) all.push(one);
    return all;
  };
  const [one] = await listed();
  t.like(one, { databaseId: database.databaseId, createdBy: 'uid:7', fault: null });
  t.regex(one!.createdAt!, /^\d{4}-/);
  await kms.dropDatabase(database.databaseId);
  t.false(database.isOpen);
  await refused(t, database.describeKey(keyId), 'UNAUTHENTICATED', /open it again/);
  await refused(t, kms.openDatabase(secretBytes(secret)), 'UNAUTHENTICATED', /opens nothing/);
  await refused(t, kms.dropDatabase(database.databaseId), 'NOT_FOUND', /no such database/);
  await refused(t, kms.dropDatabase('../x'), 'INVALID_ARGUMENT', /database id/);
  t.deepEqual(await listed(), []);
  t.is((await documentsIn(store)).size, 0);
});

test('a rewrap inside answers a key as it is, and adds no master key', async (t) => {
  const kms = await openOn(t, openMemoryStore(), K1);
  const database = await openedIn(t, kms, await madeIn(kms));
  const created = await database.createDek();
  t.is(created.kekId, `kek_${database.databaseId}`);
  const moved = await database.rewrapDek(created.keyId);
  t.deepEqual({ ...moved, wrapped: Buffer.from(moved.wrapped) }, { ...created, wrapped: Buffer.from(created.wrapped) });
  await refused(t, database.rewrapDek(created.keyId, { newKekHex: '1'.repeat(64) }), 'UNSUPPORTED', /outside the database/);
  await refused(t, database.rewrapDek(`k_${'0'.repeat(32)}`), 'KEY_NOT_FOUND');
  t.is((await kms.slots()).length, 1);
});

test('only those that somebody created are listed as their own, inside and outside', async (t) => {
  const kms = await openOn(t, openMemoryStore(), K1);
  const database = await openedIn(t, kms, await madeIn(kms));
  for (const place of [kms, database]) {
    const { keyId } = await place.createDek(undefined, { actor: 'uid:1' });
    await place.createDek(undefined, { actor: 'uid:2' });
    t.deepEqual(
      (await place.ownedKeys({}, { actor: 'uid:1' })).keys.map((key) => key.keyId),
      [keyId],
    );
    t.deepEqual((await place.ownedKeys({}, { actor: 'uid:3' })).keys, []);
  }
});

test('what a drop left behind that a crash cut short is removed by another drop', async (t) => {
  const place = newPlace(t);
  const kms = await openAt(t, place);
  const database = await openedIn(t, kms, await madeIn(kms));
  await database.createDek();
  const root = join(place.dataDir, 'kms-databases');
  database.leave();
  // As a crash leaves it: the database's own document is the first to go.
  rmSync(join(root, `${database.databaseId}.database`));
  await kms.dropDatabase(database.databaseId);
  t.deepEqual(readdirSync(root), []);
  await refused(t, kms.dropDatabase(database.databaseId), 'NOT_FOUND', /no such database/);
});

test.serial(
  'a database that opens when nobody waits for it any longer is closed again, and a secret of then is wiped',
  async (t) => {
    const kms = await openOn(t, openMemoryStore(), K1);
    const secret = await madeIn(kms);
    const { open, create } = Databases.prototype;
    t.teardown(() => Object.assign(Databases.prototype, { open, create }));
    const late: { database?: OpenDatabase; made?: Uint8Array } = {};
    const delay = () => new Promise((resolve) => setTimeout(resolve, 30));
    Databases.prototype.open = async function slow(...args) {
      await delay();
      late.database = await open.apply(this, args);
      return late.database;
    };
    Databases.prototype.create = async function slow(...args) {
      await delay();
      late.made = await create.apply(this, args);
      return late.made;
    };
    await refused(t, kms.openDatabase(secretBytes(secret), { deadlineMs: 1 }), 'DEADLINE_EXCEEDED');
    await refused(t, kms.newDatabase({ deadlineMs: 1 }), 'DEADLINE_EXCEEDED');
    while (late.database === undefined || late.made === undefined) await delay();
    await delay();
    t.false(late.database.isOpen);
    t.true(late.made.length > 0 && late.made.every((byte) => byte === 0));
  },
);
