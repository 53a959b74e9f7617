import { openStore } from '../../dist/kms/opened.js';
import { openFileStore } from '../../dist/store/files.js';
import { packed } from '../../dist/store/packed.js';

/** A process that loads, makes, moves and compares packed records of a store, sound ones and others, and then stands still. */
const [dataDir, masterKeyFile] = process.argv.slice(2) as [string, string];
const ROUNDS = 500;
const AT = '2026-01-31T12:00:00.000Z';

const store = await openFileStore({ dataDir });
const settings = { arena: { arenaBytes: 262_144, keptContexts: 0 }, cachedKeys: 2, initialise: false, strict: false };
const master = { kind: 'file', path: masterKeyFile, mayBeGroupReadable: false } as const;
const { vault, keyring } = await openStore(store, master, settings, () => {});
const { kekId, kekVersion } = keyring.active;
const own = [kekId, kekVersion, keyring.kek(kekId)] as const;
const next = [`kek_${'0'.repeat(32)}`, kekVersion + 1, vault.generate('kek')] as const;
let calls = 0;
for (const keyId of await store.listKeyIds(undefined, 10)) {
  const bytes = packed((await store.readRecord(keyId))!);
  const faulty = new Uint8Array(bytes);
  faulty[faulty.length - 1]! ^= 1;
  for (let round = 0; round < ROUNDS; round += 1) {
    vault.setRing(keyring.storeId, keyring.recordMac, [own]);
    const key = vault.loadRecord(keyId, bytes);
    const made = vault.makeRecord(key, 'k_new', '', 'uid:1', AT, 1);
    vault.setRing(keyring.storeId, keyring.recordMac, [next, own]);
    const moved = vault.moveRecord(keyId, bytes, AT) as Uint8Array;
    const same = vault.holdSameKey(moved, bytes) === true && vault.loadRecord('k_new', made) > 0;
    vault.retire('k_new', 'evicted');
    const refused = [vault.loadRecord(keyId, faulty), vault.moveRecord(keyId, faulty, AT), vault.holdSameKey(faulty, moved)];
    if (key > 0 && same && refused.every((status) => (status as number) < 0)) calls += 1;
  }
}
console.log(`done ${calls}`);
process.stdin.resume();
