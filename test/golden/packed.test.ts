import { chmodSync, cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { openStore } from '../../dist/kms/opened.js';
import { binding } from '../../dist/native.js';
import { openFileStore } from '../../dist/store/files.js';
import { packed, unpacked } from '../../dist/store/packed.js';
import { decrypt } from '../../dist/vault.js';
import { plain } from '../store/documents.js';

const GOLDEN = fileURLToPath(new URL('../../test/golden/', import.meta.url));
const RECORDS = 'data/kms-deks';

interface Message {
  keyId: string | null;
  plaintext: string;
  aad: string | null;
  ciphertext: string;
}

function records(release: string) {
  const directory = join(GOLDEN, release, RECORDS);
  return readdirSync(directory).map((name) => binding.parseRecord(readFileSync(join(directory, name))));
}

/** A vault with the ring of a released store, and nothing of its records. */
async function opened(t: ExecutionContext, release: string) {
  const directory = mkdtempSync(join(tmpdir(), 'kms-golden-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const dataDir = join(directory, 'data');
  cpSync(join(GOLDEN, release, 'data', 'keyring.json'), join(dataDir, 'keyring.json'));
  chmodSync(dataDir, 0o700);
  chmodSync(join(dataDir, 'keyring.json'), 0o600);
  const hex = readFileSync(join(GOLDEN, release, 'TEST-ONLY-master.key'), 'utf8').trim();
  const store = await openFileStore({ dataDir });
  const settings = { arena: { arenaBytes: 262_144, keptContexts: 64 }, cachedKeys: 64, initialise: false, strict: false };
  const master = { kind: 'bytes', bytes: new Uint8Array(Buffer.from(hex, 'hex')) } as const;
  const { vault, keyring, cache } = await openStore(store, master, settings, () => {});
  t.teardown(() => {
    cache.close();
    vault.close();
    return store.close();
  });
  const { kekId, kekVersion } = keyring.active;
  vault.setRing(keyring.storeId, keyring.recordMac, [[kekId, kekVersion, keyring.kek(kekId)]]);
  return vault;
}

async function decrypts(t: ExecutionContext, release: string, bytes: ReadonlyMap<string, Uint8Array>): Promise<void> {
  const vault = await opened(t, release);
  const messages = JSON.parse(readFileSync(join(GOLDEN, release, 'messages.json'), 'utf8')) as Message[];
  let read = 0;
  for (const { keyId, plaintext, aad, ciphertext } of messages) {
    if (keyId === null) continue;
    const key = vault.loadRecord(keyId, bytes.get(keyId)!);
    t.true(key > 0);
    const opened = decrypt(key, Buffer.from(ciphertext, 'base64'), aad === null ? undefined : Buffer.from(aad));
    t.is(Buffer.from(opened as Uint8Array).toString(), plaintext);
    read += 1;
  }
  t.true(read > 0);
}

for (const release of ['v1', 'v2']) {
  test(`${release}: its records are loaded once they are packed`, async (t) => {
    await decrypts(t, release, new Map(records(release).map((record) => [record.keyId, packed(record)])));
  });
}

test('packed records are read as the files that they were made of, and are what is packed today', async (t) => {
  const texts = JSON.parse(readFileSync(join(GOLDEN, 'packed-v2.json'), 'utf8')) as Record<string, string>;
  const bytes = new Map(Object.entries(texts).map(([keyId, text]) => [keyId, Buffer.from(text, 'base64')]));
  const files = records('v2');
  t.deepEqual([...bytes.keys()].sort(), files.map(({ keyId }) => keyId).sort());
  for (const record of files) {
    t.deepEqual(plain(unpacked(bytes.get(record.keyId)!)), plain(record));
    t.deepEqual(Buffer.from(packed(record)), bytes.get(record.keyId));
  }
  await decrypts(t, 'v2', bytes);
});
