import { createCipheriv, randomBytes } from 'node:crypto';
import { copyFileSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { EmbeddedKms } from '../../dist/create.js';
import { lp, type RecordJson, readJson, recordMac, writeJson } from '../provider/edited.js';
import { newPlace, openAt, type Place } from '../provider/subjects.js';
import { openedStore } from '../secrets/opened-store.js';
import { filled, opensAll, rotated, type Sealed } from './stores.js';

interface Ground {
  place: Place;
  kms: EmbeddedKms;
  messages: Sealed[];
  path(keyId: string): string;
  backup(rotationId: string, keyId: string): string;
}

async function ground(t: ExecutionContext): Promise<Ground> {
  const place = newPlace(t);
  const kms = await openAt(t, place);
  const path = (keyId: string) => join(place.dataDir, 'kms-deks', `${keyId}.json`);
  const backup = (rotationId: string, keyId: string) => join(place.dataDir, 'kms-deks-backup', rotationId, `${keyId}.json`);
  return { place, kms, messages: await filled(kms, 6), path, backup };
}

test('a damaged record blocks a rotation and is named; put right, the rotation ends, and the key serves', async (t) => {
  const { kms, messages, path, place } = await ground(t);
  const [bad] = messages;
  const saved = join(place.directory, 'saved.json');
  copyFileSync(path(bad!.keyId), saved);
  writeFileSync(path(bad!.keyId), '{}');
  const blocked = await kms.rotateKek({ wait: true });
  t.like(blocked, { state: 'blocked', phase: 'rewrap', kekVersion: '2', total: 6, done: 5, error: null });
  t.is(blocked.blockedBy.length, 1);
  t.is(blocked.blockedBy[0]!.keyId, bad!.keyId);
  t.regex(blocked.blockedBy[0]!.reason, /missing/);
  await opensAll(t, kms, messages.slice(1), 'the others serve');
  t.like(await kms.rotateKek({ wait: true }), { state: 'blocked', rotationId: blocked.rotationId }, 'it is no better yet');
  copyFileSync(saved, path(bad!.keyId));
  t.like(await kms.rotateKek({ wait: true }), { state: 'idle', blockedBy: [], done: 6, rotationId: blocked.rotationId });
  await opensAll(t, kms, messages);
});

test('a record that is damaged between its reading and its move blocks the rotation and is named', async (t) => {
  const { kms, messages, path } = await ground(t);
  const begun = await kms.rotateKek({ keysPerSecond: 2 });
  t.is(begun.state, 'running');
  // All are read by now, and all but the first wait for their turn.
  while ((await kms.rotationStatus()).done < 1) await new Promise((resolve) => setTimeout(resolve, 5));
  const last = messages.find(({ keyId }) => (readJson<RecordJson>(path(keyId)) as { kek_version: number }).kek_version === 1)!;
  writeFileSync(path(last.keyId), '{}');
  const status = await rotated(kms);
  t.like(status, { state: 'blocked', phase: 'rewrap', error: null });
  t.deepEqual(
    status.blockedBy.map(({ keyId }) => keyId),
    [last.keyId],
  );
});

test('a blocked rotation is resumed by a start, and blocked again', async (t) => {
  const { kms, messages, path, place } = await ground(t);
  writeFileSync(path(messages[0]!.keyId), '{}');
  const { rotationId } = await kms.rotateKek({ wait: true });
  await kms.close();
  const again = await openAt(t, place);
  t.like(await rotated(again), { state: 'blocked', rotationId });
});

test('an abandoned record is kept with the rotation as it is, and the rotation ends without it', async (t) => {
  const { kms, messages, path, backup } = await ground(t);
  const [bad, sound] = messages;
  writeFileSync(path(bad!.keyId), 'nobody can read this');
  const { rotationId } = await kms.rotateKek({ wait: true });
  await t.throwsAsync(kms.rotateKek({ abandon: [sound!.keyId] }), { code: 'CONFLICT', message: /is sound/ });
  const status = await kms.rotateKek({ abandon: [bad!.keyId], wait: true });
  t.like(status, { state: 'idle', rotationId, total: 5, done: 5 });
  t.false(existsSync(path(bad!.keyId)));
  t.is(readFileSync(backup(rotationId!, bad!.keyId), 'utf8'), 'nobody can read this');
  t.deepEqual((await kms.health()).damagedRecords, []);
  await t.throwsAsync(kms.decryptWithDek(bad!.keyId, bad!.ciphertext), { code: 'KEY_NOT_FOUND' });
  await opensAll(t, kms, messages.slice(1));
});

test('keys are left behind by a rotation under way only, and one that is not there is said to be', async (t) => {
  const { kms, messages, path } = await ground(t);
  await t.throwsAsync(kms.rotateKek({ abandon: [messages[0]!.keyId] }), { code: 'CONFLICT' });
  writeFileSync(path(messages[0]!.keyId), '{}');
  await kms.rotateKek({ wait: true });
  await t.throwsAsync(kms.rotateKek({ abandon: ['k_none'] }), { code: 'KEY_NOT_FOUND' });
});

/** Stops a rotation before its verification, by a record that blocks it. */
async function halted(t: ExecutionContext) {
  const own = await ground(t);
  const { keys } = openedStore(own.place.dataDir, own.place.masterKeyFile);
  const saved = readFileSync(own.path(own.messages[0]!.keyId));
  writeFileSync(own.path(own.messages[0]!.keyId), '{}');
  const { rotationId } = await own.kms.rotateKek({ wait: true });
  writeFileSync(own.path(own.messages[0]!.keyId), saved);
  return { ...own, keys, rotationId: rotationId! };
}

test('a backup that is damaged, edited or of another key is found before the old KEK goes', async (t) => {
  const { kms, messages, backup, rotationId, path } = await halted(t);
  const [, damaged, edited, other] = messages.map(({ keyId }) => keyId);
  writeFileSync(backup(rotationId, damaged!), '{}');
  const json = JSON.parse(readFileSync(backup(rotationId, edited!), 'utf8'));
  writeFileSync(backup(rotationId, edited!), JSON.stringify({ ...json, uses_reserved: 5 }));
  copyFileSync(backup(rotationId, other!), backup(rotationId, messages[4]!.keyId));
  const status = await kms.rotateKek({ wait: true });
  t.like(status, { state: 'blocked', phase: 'verify', kekVersion: '2' });
  const reasons = new Map(status.blockedBy.map(({ keyId, reason }) => [keyId, reason]));
  t.deepEqual([...reasons.keys()].sort(), [damaged, edited, messages[4]!.keyId].sort());
  t.regex(reasons.get(damaged!) ?? '', /its backup is damaged/);
  t.regex(reasons.get(edited!) ?? '', /authentication code of its backup/);
  t.regex(reasons.get(messages[4]!.keyId) ?? '', /swapped/);
  await opensAll(t, kms, messages);
  t.is((JSON.parse(readFileSync(path(other!), 'utf8')) as { kek_version: number }).kek_version, 2);
});

test('a sound record is not left behind for its backup, which is damaged', async (t) => {
  const { kms, messages, backup, rotationId, path } = await halted(t);
  const { keyId } = messages[1]!;
  writeFileSync(backup(rotationId, keyId), '{}');
  t.like(await kms.rotateKek({ wait: true }), { state: 'blocked', phase: 'verify' });
  await t.throwsAsync(kms.rotateKek({ abandon: [keyId] }), { code: 'CONFLICT', message: /is sound/ });
  t.true(existsSync(path(keyId)));
  rmSync(backup(rotationId, keyId));
  t.like(await kms.rotateKek({ wait: true }), { state: 'idle', done: 6 });
  await opensAll(t, kms, messages);
});

test('a record that was put back in the middle of a rotation is moved with the others', async (t) => {
  const { kms, messages, backup, rotationId, path } = await halted(t);
  const { keyId } = messages[3]!;
  copyFileSync(backup(rotationId, keyId), path(keyId));
  t.like(await kms.rotateKek({ wait: true }), { state: 'idle', done: 6 });
  t.is((JSON.parse(readFileSync(path(keyId), 'utf8')) as { kek_version: number }).kek_version, 2);
  await opensAll(t, kms, messages);
});

/** A record as only who has the KEK and the record MAC key can make it: of the same key id, but of another key. */
function forged(record: RecordJson, keys: ReadonlyMap<string, Buffer>): RecordJson {
  const { store_id, key_id, thread_id, alg, created_at, created_by, kek_id, kek_version } = record;
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', keys.get('kek')!, nonce);
  cipher.setAAD(lp(['progressdb-kms/dek/v1', store_id, key_id, thread_id, alg, created_at, created_by, kek_id, kek_version]));
  const wrapped = Buffer.concat([nonce, cipher.update(randomBytes(32)), cipher.final(), cipher.getAuthTag()]).toString('base64');
  const other = { ...record, wrapped };
  return { ...other, mac: recordMac(other, keys.get('record-mac')!) };
}

test('a record that holds another key than its backup, though both open, blocks the rotation', async (t) => {
  const { kms, messages, backup, rotationId, keys } = await halted(t);
  const path = backup(rotationId, messages[2]!.keyId);
  writeJson(path, forged(readJson<RecordJson>(path), keys));
  const status = await kms.rotateKek({ wait: true });
  t.like(status, { state: 'blocked', phase: 'verify' });
  t.deepEqual(status.blockedBy, [{ keyId: messages[2]!.keyId, reason: 'it holds another key than its backup' }]);
  await opensAll(t, kms, messages);
});

test('a dry run opens every record, names what would block, and changes nothing', async (t) => {
  const { kms, messages, path, place } = await ground(t);
  await kms.disableKey(messages[1]!.keyId);
  await kms.destroyKey(messages[1]!.keyId);
  writeFileSync(path(messages[0]!.keyId), '{}');
  const files = () => readdirSync(place.dataDir).concat(readFileSync(join(place.dataDir, 'keyring.json'), 'utf8'));
  const before = files();
  const status = await kms.rotateKek({ dryRun: true });
  t.like(status, { state: 'blocked', rotationId: null, phase: null, kekVersion: '1', total: 5, done: 4 });
  t.deepEqual(
    status.blockedBy.map(({ keyId }) => keyId),
    [messages[0]!.keyId],
  );
  t.deepEqual(files(), before);
  t.like(await kms.rotationStatus(), { state: 'idle', total: 0 });
});
