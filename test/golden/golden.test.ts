import { createDecipheriv } from 'node:crypto';
import { chmodSync, cpSync, createReadStream, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { restoreBackup } from '../../dist/backup/restore.js';
import { openFile } from '../../dist/cli/files.js';
import { createEmbeddedKms, type EmbeddedKms } from '../../dist/create.js';
import { ERROR_TABLE } from '../../dist/errors.js';
import { openMemoryThreadStore } from '../../dist/threads/memory-store.js';
import { openThreads } from '../../dist/threads/threads.js';
import { checkBackup } from '../backup/checked.js';
import { master, RESTORING } from '../backup/ground.js';
import { openedStore } from '../secrets/opened-store.js';
import { allVersions } from '../threads/threads-ground.js';

const GOLDEN = fileURLToPath(new URL('../../test/golden/', import.meta.url));
const RELEASES = readdirSync(GOLDEN).filter((name) => /^v\d+$/.test(name));

interface Message {
  /** Null for the default key. */
  keyId: string | null;
  plaintext: string;
  aad: string | null;
  ciphertext: string;
}

/** A copy with the modes that a data directory must have and git does not keep. */
function copyOf(t: ExecutionContext, release: string) {
  const directory = mkdtempSync(join(tmpdir(), 'kms-golden-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  cpSync(join(GOLDEN, release), directory, { recursive: true });
  const dataDir = join(directory, 'data');
  const masterKeyFile = join(directory, 'TEST-ONLY-master.key');
  for (const path of [dataDir, join(dataDir, 'kms-deks')]) chmodSync(path, 0o700);
  const records = readdirSync(join(dataDir, 'kms-deks')).map((name) => join(dataDir, 'kms-deks', name));
  for (const path of [masterKeyFile, join(dataDir, 'keyring.json'), ...records]) chmodSync(path, 0o600);
  const messages = JSON.parse(readFileSync(join(directory, 'messages.json'), 'utf8')) as Message[];
  return { directory, dataDir, masterKeyFile, messages };
}

async function opened(t: ExecutionContext, release: string) {
  const copy = copyOf(t, release);
  const kms = await createEmbeddedKms({ dataDir: copy.dataDir, masterKeyFile: copy.masterKeyFile, initialise: false });
  t.teardown(() => kms.close());
  return { ...copy, kms };
}

function aadOf({ aad }: Message): Buffer | undefined {
  return aad === null ? undefined : Buffer.from(aad);
}

async function allDecrypt(t: ExecutionContext, kms: EmbeddedKms, messages: readonly Message[]): Promise<void> {
  for (const message of messages) {
    const { keyId, plaintext } = message;
    const bytes = Buffer.from(message.ciphertext, 'base64');
    const aad = aadOf(message);
    const found = keyId === null ? await kms.decrypt(bytes, aad) : await kms.decryptWithDek(keyId, bytes, aad);
    t.is(Buffer.from(found).toString(), plaintext);
  }
}

test('there is a folder of files for the formats of this release', (t) => {
  t.deepEqual(RELEASES, ['v1', 'v2']);
});

test('v2: an LMDB store of that release opens, and has its keys', async (t) => {
  const { directory, dataDir, masterKeyFile, messages } = copyOf(t, 'v2');
  rmSync(join(dataDir, 'kms-deks'), { recursive: true });
  cpSync(join(directory, 'keys.lmdb'), join(dataDir, 'keys.lmdb'));
  chmodSync(join(dataDir, 'keys.lmdb'), 0o600);
  const kms = await createEmbeddedKms({ dataDir, masterKeyFile, initialise: false });
  t.teardown(() => kms.close());
  await allDecrypt(t, kms, messages);
  t.is((await kms.listKeys()).keys.length, 2);
});

test('v2: a backup of a store without databases verifies, and what is restored of it decrypts every message', async (t) => {
  const { directory, masterKeyFile, messages } = copyOf(t, 'v2');
  const path = join(directory, 'store.backup');
  cpSync(join(GOLDEN, 'store-v2.backup'), path);
  t.is(readFileSync(path).subarray(0, 5).toString('latin1'), '\x03pkb1');
  const dataDir = join(directory, 'restored');
  const place = { directory, dataDir, masterKeyFile };
  t.deepEqual(await checkBackup(path, place), []);
  t.like(await restoreBackup({ path, dataDir, master: master(place), ...RESTORING }), { records: 2, leftOut: [] });
  const kms = await createEmbeddedKms({ dataDir, masterKeyFile, initialise: false });
  t.teardown(() => kms.close());
  await allDecrypt(t, kms, messages);
});

test('a keyring of format 1 becomes one of format 2 with its next change, and its records go on being believed', async (t) => {
  const { dataDir, masterKeyFile, messages } = copyOf(t, 'v1');
  const format = () => JSON.parse(readFileSync(join(dataDir, 'keyring.json'), 'utf8')).format;
  const open = (inspect = false) => createEmbeddedKms({ dataDir, masterKeyFile, initialise: false, inspect });
  await (await open(true)).close();
  t.is(format(), 1, 'to look at it is no change');
  const first = await open();
  t.is(format(), 2);
  const { keyId: made } = await first.createDekForThread('new');
  await first.close();
  const second = await open();
  t.teardown(() => second.close());
  const { keyId, ciphertext, plaintext, aad } = messages.find((one) => one.keyId !== null) as Message & { keyId: string };
  const opened = await second.decryptWithDek(
    keyId,
    Buffer.from(ciphertext, 'base64'),
    aad === null ? undefined : Buffer.from(aad),
  );
  t.is(Buffer.from(opened).toString(), plaintext);
  t.is((await second.describeKey(made)).threadId, 'new');
  t.deepEqual((await second.health()).damagedRecords, []);
  t.true(openedStore(dataDir, masterKeyFile).deks.has(keyId), 'and so does docs/FORMATS.md read it');
});

/** The entries of a store of threads, by their keys. */
function threadEntries(directory: string): Array<{ key: string; value: Buffer }> {
  const entries = JSON.parse(readFileSync(join(directory, 'threads.json'), 'utf8')) as Record<string, string>;
  return Object.entries(entries).map(([key, text]) => ({ key, value: Buffer.from(text) }));
}

test('v2: threads are read: whole bodies and fields, versions, what looks like an envelope, and what the original wrote', async (t) => {
  const { kms, directory } = await opened(t, 'v2');
  const store = openMemoryThreadStore();
  await store.commit([{ expect: [], put: threadEntries(directory), remove: [] }]);
  const threads = await openThreads({ kms, store });
  const { messages } = await threads.list('golden/thread:1');
  t.deepEqual(
    messages.map(({ body, error, author }) => [author, error, body]),
    [
      ['ann', null, { text: 'hello, reader of a later version' }],
      ['bob', null, { card: '4111', items: [{ note: 'first', n: 1 }, { n: 2 }], look: { _enc: 'gcm', v: 'not one' } }],
      [null, null, 'edited'],
      ['go', null, { text: 'from the original', big: 1 }],
    ],
  );
  const before = await allVersions(threads, 'golden/thread:1', messages[2]!.messageId);
  t.deepEqual(
    before.map(({ body }) => body),
    ['as it was'],
  );
});

test('v2: docs/FORMATS.md alone is enough to read a message of a thread', (t) => {
  const { dataDir, masterKeyFile, directory } = copyOf(t, 'v2');
  const { deks } = openedStore(dataDir, masterKeyFile);
  const lp = (...fields: string[]) =>
    Buffer.concat(
      fields.flatMap((field) => {
        const length = Buffer.alloc(4);
        length.writeUInt32BE(Buffer.byteLength(field));
        return [length, Buffer.from(field)];
      }),
    );
  let read = 0;
  for (const { key, value } of threadEntries(directory)) {
    if (!/:\d{20}-\d{6}$/.test(key)) continue;
    const { id, thread, enc, body } = JSON.parse(value.toString());
    for (const place of (enc?.at ?? []) as Array<Array<string | number>>) {
      const { k, v } = place.reduce((inner, step) => inner[step], body);
      const sealed = Buffer.from(v, 'base64');
      const decipher = createDecipheriv('aes-256-gcm', deks.get(k)!, sealed.subarray(0, 12), { authTagLength: 16 });
      decipher.setAAD(lp('progressdb-kms/message/v1', thread, id, JSON.stringify(place)));
      decipher.setAuthTag(sealed.subarray(-16));
      t.notThrows(() => JSON.parse(Buffer.concat([decipher.update(sealed.subarray(12, -16)), decipher.final()]).toString()));
      read += 1;
    }
  }
  t.true(read >= 5);
});

for (const release of RELEASES) {
  test(`${release}: every ciphertext decrypts, and only with its AAD`, async (t) => {
    const { kms, messages } = await opened(t, release);
    t.true(messages.length >= 6);
    for (const message of messages) {
      const sealed = Buffer.from(message.ciphertext, 'base64');
      const open = (aad: Buffer | undefined) =>
        message.keyId === null ? kms.decrypt(sealed, aad) : kms.decryptWithDek(message.keyId, sealed, aad);
      t.is(Buffer.from(await open(aadOf(message))).toString(), message.plaintext);
      await t.throwsAsync(open(Buffer.from('another')), { message: ERROR_TABLE.AUTHENTICATION_FAILED.message });
    }
  });

  test(`${release}: its keys go on: they are listed, encrypt, and change their states`, async (t) => {
    const { kms, messages } = await opened(t, release);
    const { keys } = await kms.listKeys();
    t.deepEqual(keys.map((key) => key.threadId).sort(), ['golden/thread:1', null]);
    t.true(keys.every((key) => key.state === 'active' && key.kekVersion === '1'));
    const { keyId } = messages.find((message) => message.keyId !== null) as { keyId: string };
    const { ciphertext } = await kms.encryptWithDek(keyId, Buffer.from('new'));
    t.is(Buffer.from(await kms.decryptWithDek(keyId, ciphertext)).toString(), 'new');
    t.is((await kms.disableKey(keyId)).state, 'disabled');
    t.is((await kms.destroyKey(keyId)).state, 'destroyed');
    t.deepEqual((await kms.health()).damagedRecords, []);
  });

  test(`${release}: sealed files open, the chunked one too, and not when they are cut`, async (t) => {
    const { kms, directory } = await opened(t, release);
    const read = async (name: string, end = Number.POSITIVE_INFINITY) => {
      const parts: Uint8Array[] = [];
      for await (const part of openFile(createReadStream(join(directory, name), { end }), kms)) parts.push(part);
      return Buffer.concat(parts);
    };
    t.deepEqual(await read('small.txt.sealed'), readFileSync(join(directory, 'small.txt')));
    const zeros = await read('zeros.sealed');
    t.is(zeros.length, 262_145);
    t.true(zeros.every((byte) => byte === 0));
    await t.throwsAsync(
      read('zeros.sealed', 262_209),
      { message: ERROR_TABLE.AUTHENTICATION_FAILED.message },
      'without its last chunk',
    );
  });

  test(`${release}: docs/FORMATS.md alone is enough to read them`, (t) => {
    const { dataDir, masterKeyFile, messages } = copyOf(t, release);
    const { deks } = openedStore(dataDir, masterKeyFile);
    for (const message of messages) {
      const sealed = Buffer.from(message.ciphertext, 'base64');
      const header = message.keyId === null ? sealed.subarray(0, 17) : Buffer.alloc(0);
      const body = sealed.subarray(header.length);
      const keyId = message.keyId ?? `k_${header.subarray(1).toString('hex')}`;
      const decipher = createDecipheriv('aes-256-gcm', deks.get(keyId)!, body.subarray(0, 12), { authTagLength: 16 });
      decipher.setAAD(Buffer.concat([header, aadOf(message) ?? Buffer.alloc(0)]));
      decipher.setAuthTag(body.subarray(-16));
      t.is(Buffer.concat([decipher.update(body.subarray(12, -16)), decipher.final()]).toString(), message.plaintext);
    }
  });
}
