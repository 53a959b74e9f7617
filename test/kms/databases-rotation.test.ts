import test from 'ava';
import { NO_AUDIT } from '../../dist/audit/audit-log.js';
import { KmsError } from '../../dist/errors.js';
import { ShareMoves } from '../../dist/kms/databases/share-moves.js';
import { Shares } from '../../dist/kms/databases/shares.js';
import { newKekId } from '../../dist/kms/keyring-document.js';
import { type KeyStore, Superseded } from '../../dist/store/key-store.js';
import { openMemoryStore } from '../../dist/store/memory.js';
import { administered } from './administered.js';
import { documentsIn, madeIn, openedIn } from './databases.js';
import { K1, openOn } from './stores.js';

const PLAIN = Buffer.from('of one tenant');
const ORDER = { actor: 'uid:1', abandon: [] };

async function kekIdsOf(store: KeyStore, t: Parameters<typeof administered>[0]): Promise<string[][]> {
  const { opened, wipe } = await administered(t, store, K1, NO_AUDIT);
  const shares = new Shares(opened, store.sealed);
  const found: string[][] = [];
  for (const databaseId of await store.sealed.list('', undefined, 100)) {
    found.push((await shares.read(databaseId))!.document.shares.map(({ kekId }) => kekId));
  }
  await wipe();
  return found;
}

test('a rotation moves the shares of all databases, needs no secret, and touches nothing in them', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1);
  const secrets = await Promise.all([1, 2, 3].map(() => madeIn(kms)));
  const database = await openedIn(t, kms, secrets[0]!);
  const { keyId } = await database.createDek();
  const { ciphertext } = await database.encryptWithDek(keyId, PLAIN);
  const before = await documentsIn(store);
  const first = (await kms.rotationStatus()).kekId;
  t.is((await kms.rotateKek({ dryRun: true })).state, 'idle');
  const { state, kekId } = await kms.rotateKek({ wait: true });
  t.is(state, 'idle');
  const after = await documentsIn(store);
  t.deepEqual([...after.keys()], [...before.keys()]);
  for (const [name, document] of after) t.is(Buffer.compare(document, before.get(name)!) === 0, name.includes('/'), name);
  t.deepEqual(Buffer.from(await database.decryptWithDek(keyId, ciphertext)), PLAIN, 'who has it open goes on');
  t.is((await database.describeKey(keyId)).kekVersion, '1');
  for (const secret of secrets) await t.notThrowsAsync(openedIn(t, kms, secret));
  for await (const one of kms.databases()) t.like(one, { createdBy: 'uid:1', fault: null });
  t.deepEqual(Buffer.from(await (await openedIn(t, kms, secrets[0]!)).decryptWithDek(keyId, ciphertext)), PLAIN);
  await kms.close();
  for (const keks of await kekIdsOf(store, t)) t.deepEqual(keks, [kekId, first]);
  const again = await openOn(t, store, K1);
  const third = (await again.rotateKek({ wait: true })).kekId;
  await again.close();
  for (const keks of await kekIdsOf(store, t)) t.deepEqual(keks, [third, kekId]);
});

test('a database whose document is damaged holds a rotation up, by name, until it is put right or dropped', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1);
  await madeIn(kms);
  const [databaseId] = await store.sealed.list('', undefined, 1);
  const document = (await store.sealed.read(databaseId!))!;
  const damaged = document.map((byte, at) => (at === 50 ? byte ^ 1 : byte));
  await store.sealed.write(databaseId!, damaged, document);
  const blockedBy = [{ keyId: `database ${databaseId}`, reason: 'its authentication code does not match' }];
  t.like(await kms.rotateKek({ dryRun: true }), { state: 'blocked', blockedBy });
  t.like(await kms.rotateKek({ wait: true }), { state: 'blocked', phase: 'rewrap', blockedBy });
  for await (const one of kms.databases()) t.like(one, { databaseId, createdAt: null, fault: blockedBy[0]!.reason });
  await store.sealed.write(databaseId!, document, damaged);
  t.like(await kms.rotateKek({ wait: true }), { state: 'idle', kekVersion: '2', blockedBy: [] });
  const moved = (await store.sealed.read(databaseId!))!;
  await store.sealed.write(databaseId!, damaged, moved);
  t.like(await kms.rotateKek({ wait: true }), { state: 'blocked', blockedBy });
  await kms.dropDatabase(databaseId!);
  t.like(await kms.rotateKek({ wait: true }), { state: 'idle', kekVersion: '3', blockedBy: [] });
});

test('a share that is not the one of before holds a rotation up: the older KEK stays', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1);
  await madeIn(kms);
  await kms.close();
  const { opened, administration } = await administered(t, store, K1, NO_AUDIT);
  const shares = new Shares(opened, store.sealed);
  const { sealed } = store;
  const write = sealed.write.bind(sealed);
  // As if the move had gone wrong: a sound document with somebody else's share in it.
  sealed.write = async (name, document, before) => {
    const { document: moved } = shares.verified(name, document);
    const [, old] = moved.shares;
    const wrong = await opened.keyring.withKek(async (kek) =>
      shares.wrap(kek, moved, opened.vault.generate('half'), { createdAt: '', createdBy: '' }),
    );
    await write(name, shares.encoded({ ...moved, shares: [wrong, old!] }), before);
  };
  await administration.rotation.begin(ORDER);
  await administration.rotation.ended();
  const status = administration.rotation.status();
  t.is(status.state, 'blocked');
  t.is(status.blockedBy[0]?.reason, 'it holds another share than before');
  t.true(opened.keyring.isRotating);
});

test('a rotation cut off at any write of a share is gone on with by the next start, and either KEK opens it meanwhile', async (t) => {
  for (let cutAt = 1; cutAt <= 4; cutAt += 1) {
    for (const isWritten of [false, true]) {
      const store = openMemoryStore();
      const kms = await openOn(t, store, K1);
      const secrets = await Promise.all([1, 2, 3].map(() => madeIn(kms)));
      await kms.close();
      const { administration, wipe } = await administered(t, store, K1, NO_AUDIT);
      const { sealed } = store;
      const write = sealed.write.bind(sealed);
      let writes = 0;
      sealed.write = async (...args) => {
        writes += 1;
        if (writes < cutAt) return write(...args);
        if (writes === cutAt && isWritten) await write(...args);
        throw new Error('killed');
      };
      await administration.rotation.begin(ORDER);
      await administration.rotation.ended();
      t.is(administration.rotation.status().state, cutAt <= 3 ? 'failed' : 'idle');
      await wipe();
      sealed.write = write;
      const next = await openOn(t, store, K1, { inspect: true });
      for (const secret of secrets) await t.notThrowsAsync(openedIn(t, next, secret), `${cutAt} ${isWritten}`);
      await next.close();
      const resumed = await openOn(t, store, K1);
      for (const secret of secrets) await t.notThrowsAsync(openedIn(t, resumed, secret));
      while ((await resumed.rotationStatus()).state === 'running') await new Promise((resolve) => setTimeout(resolve, 5));
      t.is((await resumed.rotationStatus()).state, 'idle');
      await resumed.close();
      for (const keks of await kekIdsOf(store, t)) t.is(keks.length, 2);
      t.is((await store.readKeyring())!.keks.length, 1);
    }
  }
});

test('databases that are made while a rotation runs are under the new KEK', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1);
  await Promise.all(Array.from({ length: 30 }, () => kms.createDek()));
  const rotating = kms.rotateKek({ wait: true });
  const secrets = await Promise.all(Array.from({ length: 20 }, () => madeIn(kms)));
  t.is((await rotating).state, 'idle');
  for (const secret of secrets) await t.notThrowsAsync(openedIn(t, kms, secret));
  const { kekId } = await kms.rotationStatus();
  await kms.close();
  for (const [live] of await kekIdsOf(store, t)) t.is(live, kekId);
});

test('a database whose KEK another process succeeds before it is written is made under the next one', async (t) => {
  const store = openMemoryStore();
  const { opened, wipe } = await administered(t, store, K1, NO_AUDIT);
  const { keyring, vault } = opened;
  const write = store.sealed.write.bind(store.sealed);
  const told: Array<string | undefined> = [];
  store.sealed.write = async (name, document, known, kekId) => {
    told.push(kekId);
    if (told.length > 1) return write(name, document, known, kekId);
    await keyring.beginRotation(newKekId());
    throw new Superseded('the KEK is not active');
  };
  const before = keyring.active.kekId;
  const shares = new Shares(opened, store.sealed);
  const { half, databaseId } = vault.newDatabaseSecret(keyring.storeId);
  await shares.create(databaseId, half, 'uid:1');
  const { document } = (await shares.read(databaseId))!;
  t.deepEqual(told, [before, keyring.active.kekId], 'the store is told what it stands under');
  t.deepEqual(
    document.shares.map(({ kekId }) => kekId),
    [keyring.active.kekId],
  );
  t.notThrows(() => shares.checkOpens(document));
  await wipe();
});

test('who has lost the lead moves no database, and holds nothing up for what its successor did', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1);
  await madeIn(kms);
  await kms.close();
  const { opened, wipe } = await administered(t, store, K1, NO_AUDIT);
  const { keyring } = opened;
  await keyring.beginRotation(newKekId());
  const before = await documentsIn(store);
  const over = new KmsError('STORE_UNAVAILABLE', 'another daemon may lead');
  const blocked = () => t.fail('it holds nothing up');
  const lost = new ShareMoves(opened, store.sealed, new AbortController().signal, () => {
    throw over;
  });
  t.is(await t.throwsAsync(lost.moveAll(blocked)), over);
  t.deepEqual(await documentsIn(store), before);
  let looks = 0;
  const losing = new ShareMoves(opened, store.sealed, new AbortController().signal, () => {
    looks += 1;
    if (looks > 1) throw over;
  });
  // As where the successor has gone on under a KEK that is not known here.
  keyring.holds = () => false;
  t.is(await t.throwsAsync(losing.moveAll(blocked)), over);
  t.is(looks, 2);
  await wipe();
});
