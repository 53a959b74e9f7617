import { createDecipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import { NO_AUDIT } from '../../dist/audit/audit-log.js';
import { Shares } from '../../dist/kms/databases/shares.js';
import { lp } from '../../dist/store/canonical.js';
import type { KeyStore } from '../../dist/store/key-store.js';
import { openMemoryStore } from '../../dist/store/memory.js';
import { refused } from '../provider/refused.js';
import { administered } from './administered.js';
import { documentsIn, madeIn, openedIn, partsOf, secretBytes, secretOf } from './databases.js';
import { K1, K2, openOn } from './stores.js';

const PLAIN = Buffer.from('of one tenant');
const THREAD = 'tenant/their-thread';

/** A store with two databases, a key in each, and what a thief of its directory has. */
async function stolen(t: ExecutionContext) {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1);
  const secrets = [await madeIn(kms), await madeIn(kms)];
  const made = [];
  for (const secret of secrets) {
    const database = await openedIn(t, kms, secret);
    const { keyId } = await database.createDekForThread(THREAD);
    made.push({ databaseId: database.databaseId, keyId, ciphertext: (await database.encryptWithDek(keyId, PLAIN)).ciphertext });
    database.leave();
  }
  await kms.close();
  return { store, secrets: secrets as [string, string], made: made as [(typeof made)[0], (typeof made)[0]] };
}

function overwrite({ sealed }: KeyStore, name: string, document: Uint8Array): Promise<void> {
  return sealed.read(name).then((before) => sealed.write(name, document, before));
}

/** The documented derivations, by Node's own crypto: what somebody does who has read docs/FORMATS.md and holds both halves. */
function openedByHand(storeId: string, databaseId: string, key: Buffer, share: Buffer, name: string, sealed: Uint8Array): Buffer {
  const info = lp(['progressdb-kms/database-key/v1', storeId, databaseId]);
  const recordKey = Buffer.from(hkdfSync('sha256', key, share, info, 32));
  const label = 'progressdb-kms/database-document/v1';
  const documentKey = Buffer.from(hkdfSync('sha256', recordKey, Buffer.alloc(0), lp([label, name]), 32));
  const decipher = createDecipheriv('aes-256-gcm', documentKey, sealed.subarray(0, 12));
  decipher.setAAD(lp([label, storeId, databaseId, name]));
  decipher.setAuthTag(sealed.subarray(-16));
  return Buffer.concat([decipher.update(sealed.subarray(12, -16)), decipher.final()]);
}

test('with the data directory and the master key, and without the secret, nothing of a database is opened', async (t) => {
  const { store, secrets, made } = await stolen(t);
  const { opened } = await administered(t, store, K1, NO_AUDIT);
  const { vault, keyring } = opened;
  const shares = new Shares(opened, store.sealed);
  const [{ databaseId }] = made;
  const { document } = (await shares.read(databaseId))!;
  const share = shares.unwrap(document, document.shares[0]!);
  const documents = [...(await documentsIn(store))].filter(([name]) => name.startsWith(`${databaseId}/`));
  t.is(documents.length, 1);
  // All keys that the thief comes by, and all that they make with the share.
  const guessed = [
    vault.generate('half'),
    share,
    ...['0', 'f'].map(
      (digit) => vault.readDatabaseSecret(keyring.storeId, secretBytes(secretOf({ groupId: '1', key: digit.repeat(64) }))).half,
    ),
  ];
  const roots = guessed.flatMap((half) => [shares.join(vault, document, half, share), shares.join(vault, document, share, half)]);
  for (const root of roots) t.false(shares.isRecordKey(document, root));
  for (const under of [...roots, keyring.kek(keyring.active.kekId)]) {
    for (const [path, sealed] of documents) {
      const name = path.slice(databaseId.length + 1);
      const label = 'progressdb-kms/database-document/v1';
      const aad = lp([label, keyring.storeId, databaseId, name]);
      const error = t.throws(() => vault.openDocument(under, lp([label, name]), aad, sealed)) as { code?: string };
      t.is(error.code, 'AUTHENTICATION_FAILED');
    }
  }
  // And the same with the secret: what fails above fails for want of it alone.
  const right = shares.join(vault, document, vault.readDatabaseSecret(keyring.storeId, secretBytes(secrets[0])).half, share);
  t.true(shares.isRecordKey(document, right));
});

test('with the secret and the data directory, and without the master key, nothing of a database is opened', async (t) => {
  const { store, secrets, made } = await stolen(t);
  await t.throwsAsync(openOn(t, store, K2), { message: /not authenticated/ });
  // Its documents in a store of the thief's own, who holds that one's master key.
  const own = openMemoryStore();
  const kms = await openOn(t, own, K2);
  for (const [name, document] of await documentsIn(store)) await own.sealed.write(name, document, undefined);
  for (const secret of secrets) await refused(t, kms.openDatabase(secretBytes(secret)), 'UNAUTHENTICATED', /opens nothing/);
  // The name of a database is that of its store too: under the name that the secret has here, it is damaged.
  await madeIn(kms);
  const [{ databaseId }] = made;
  const { storeId } = (await store.readKeyring())!;
  const key = Buffer.from(partsOf(secrets[0]).key, 'hex');
  const [[path, sealed]] = [...(await documentsIn(store))].filter(([name]) => name.startsWith(`${databaseId}/`)) as [
    [string, Uint8Array],
  ];
  for (const share of [Buffer.alloc(32), key, randomBytes(32), createHmac('sha256', key).digest()]) {
    t.throws(() => openedByHand(storeId, databaseId, key, share, path.slice(databaseId.length + 1), sealed));
  }
});

test('both halves together open a database as documented, by other code than ours', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1);
  const secret = await madeIn(kms);
  const database = await openedIn(t, kms, secret);
  await database.createDekForThread(THREAD);
  const { databaseId } = database;
  const { opened } = await administered(t, store, K1, NO_AUDIT);
  const shares = new Shares(opened, store.sealed);
  const { document } = (await shares.read(databaseId))!;
  // The share's bytes never come out of the vault: what it makes with a known half is compared instead.
  const share = shares.unwrap(document, document.shares[0]!);
  const { half } = opened.vault.readDatabaseSecret(opened.keyring.storeId, secretBytes(secret));
  const recordKey = shares.join(opened.vault, document, half, share);
  const [[path, sealed]] = [...(await documentsIn(store))].filter(([name]) => name.includes('/')) as [[string, Uint8Array]];
  const name = path.slice(databaseId.length + 1);
  const label = 'progressdb-kms/database-document/v1';
  const bytes = opened.vault.openDocument(
    recordKey,
    lp([label, name]),
    lp([label, opened.keyring.storeId, databaseId, name]),
    sealed,
  );
  t.is(bytes.length, 1_024);
  t.true(Buffer.from(bytes).includes(THREAD));
});

test('the documents of two databases that were exchanged open with neither secret', async (t) => {
  const { store, secrets, made } = await stolen(t);
  const [one, two] = made.map(({ databaseId }) => databaseId) as [string, string];
  const [first, second] = [(await store.sealed.read(one))!, (await store.sealed.read(two))!];
  await overwrite(store, one, second);
  await overwrite(store, two, first);
  const kms = await openOn(t, store, K1);
  for (const secret of secrets) await refused(t, kms.openDatabase(secretBytes(secret)), 'STORE_UNAVAILABLE', /it is that of/);
});

test('a record moved to another database, or to another name of its own, is no key there', async (t) => {
  const { store, secrets, made } = await stolen(t);
  const paths = [...(await documentsIn(store)).keys()].filter((name) => name.includes('/'));
  const [from, to] = made.map(({ databaseId }) => paths.find((path) => path.startsWith(databaseId))!) as [string, string];
  const foreign = (await store.sealed.read(from))!;
  const renamed = `${made[0].databaseId}/${'ab'.repeat(16)}`;
  await overwrite(store, to, foreign);
  await store.sealed.write(renamed, foreign, undefined);
  await store.sealed.write(`${made[1].databaseId}/${from.slice(33)}`, foreign, undefined);
  const kms = await openOn(t, store, K1);
  const [first, second] = [await openedIn(t, kms, secrets[0]), await openedIn(t, kms, secrets[1])];
  await refused(t, second.decryptWithDek(made[1].keyId, made[1].ciphertext), 'STORE_UNAVAILABLE', /does not open/);
  await refused(t, second.decryptWithDek(made[0].keyId, made[0].ciphertext), 'KEY_NOT_FOUND');
  t.deepEqual((await second.listKeys()).keys, []);
  t.deepEqual(
    (await first.listKeys()).keys.map(({ keyId }) => keyId),
    [made[0].keyId],
    'once, under its own name',
  );
  t.deepEqual(Buffer.from(await first.decryptWithDek(made[0].keyId, made[0].ciphertext)), PLAIN);
});

test('a bit changed anywhere in the documents of a database is found', async (t) => {
  const { store, secrets, made } = await stolen(t);
  const documents = await documentsIn(store);
  const [{ databaseId, keyId, ciphertext }] = made;
  const kms = await openOn(t, store, K1);
  for (const [name, document] of documents) {
    if (!name.startsWith(databaseId)) continue;
    for (const at of [0, 3, 40, 100, document.length >> 1, document.length - 40, document.length - 1]) {
      await overwrite(
        store,
        name,
        document.map((byte, index) => (index === at ? byte ^ 0x10 : byte)),
      );
      const use = async () => {
        const database = await kms.openDatabase(secretBytes(secrets[0]));
        return database.decryptWithDek(keyId, ciphertext).finally(() => database.leave());
      };
      await refused(t, use, 'STORE_UNAVAILABLE', /damaged/, `${name} at ${at}`);
    }
    for (const cut of [0, 10, 31, 32, 33, document.length - 1]) {
      await overwrite(store, name, document.slice(0, cut));
      await t.throwsAsync(
        async () => {
          const database = await kms.openDatabase(secretBytes(secrets[0]));
          await database.decryptWithDek(keyId, ciphertext).finally(() => database.leave());
        },
        { message: /damaged/ },
        `${name} cut at ${cut}`,
      );
    }
    await overwrite(store, name, document);
  }
  const database = await openedIn(t, kms, secrets[0]);
  t.deepEqual(Buffer.from(await database.decryptWithDek(keyId, ciphertext)), PLAIN);
});

test('a document of before a rotation that is put back opens nothing once its KEK is gone', async (t) => {
  const { store, secrets, made } = await stolen(t);
  const old = (await store.sealed.read(made[0].databaseId))!;
  const kms = await openOn(t, store, K1);
  await kms.rotateKek({ wait: true });
  await overwrite(store, made[0].databaseId, old);
  await refused(t, kms.openDatabase(secretBytes(secrets[0])), 'STORE_UNAVAILABLE', /KEK that the keyring does not hold/);
  await t.notThrowsAsync(kms.openDatabase(secretBytes(secrets[1])).then((database) => database.close()));
});

test('a database that was dropped and put back whole is the same again, as a record outside would be', async (t) => {
  const { store, secrets, made } = await stolen(t);
  const documents = await documentsIn(store);
  const kms = await openOn(t, store, K1);
  await kms.dropDatabase(made[0].databaseId);
  await refused(t, kms.openDatabase(secretBytes(secrets[0])), 'UNAUTHENTICATED', /opens nothing/);
  for (const [name, document] of documents)
    if (name.startsWith(made[0].databaseId)) await store.sealed.write(name, document, undefined);
  const database = await openedIn(t, kms, secrets[0]);
  t.deepEqual(Buffer.from(await database.decryptWithDek(made[0].keyId, made[0].ciphertext)), PLAIN);
});
