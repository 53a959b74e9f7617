import test from 'ava';
import { arenaInfo } from '../../dist/vault.js';
import { K1, openOn, STORES } from './stores.js';

const [, openLmdb] = STORES[1]!;

// The arena is the process's, which is of this file alone.
test('the smallest arena has room for all who want keys at once', async (t) => {
  const kms = await openOn(t, await openLmdb(t), K1, { arena: { arenaBytes: 64 * 1024, keptContexts: 0 } });
  const { capacity } = arenaInfo();
  t.true(capacity < 2_048, `${capacity} cells`);
  const ids = new Set<string>();
  const create = async () => void ids.add((await kms.createDek()).keyId);
  await Promise.all(Array.from({ length: 4_096 }, create));
  t.is(ids.size, 4_096);
  const keyId = [...ids][0]!;
  const { ciphertext } = await kms.encryptWithDek(keyId, Buffer.from('text'));
  t.deepEqual(Buffer.from(await kms.decryptWithDek(keyId, ciphertext)), Buffer.from('text'));
});
