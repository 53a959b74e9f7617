import { chmodSync, cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { restoreBackup } from '../../dist/backup/restore.js';
import { createEmbeddedKms, type EmbeddedKms } from '../../dist/create.js';
import { Tokens } from '../../dist/daemon/tokens.js';
import { ERROR_TABLE } from '../../dist/errors.js';
import { RESTORED_USES } from '../../dist/limits.js';
import { Ground } from '../audit/verified.js';
import { checkBackup } from '../backup/checked.js';
import { entriesOf, master, RESTORING } from '../backup/ground.js';
import { madeIn, openedIn } from '../kms/databases.js';
import type { Place } from '../provider/subjects.js';
import { openedStore } from '../secrets/opened-store.js';
import { fieldsOf, type Outside, opened, type ReadDatabase, readDatabase } from './databases-reader.js';

const GOLDEN = fileURLToPath(new URL('../../test/golden/databases/', import.meta.url));
const KEY_STATES = ['active', 'disabled', 'destroyed'] as const;

interface Message {
  /** Which of the secrets is that of its database; null for none. */
  database: number | null;
  /** Null for the default key. */
  keyId: string | null;
  plaintext: string;
  aad: string | null;
  ciphertext: string;
}

interface Written {
  secrets: [string, string];
  tokens: Array<{ tokenId: string; token: string; roles: string[] }>;
  messages: Message[];
  /** A key of the first database for each. */
  states: Record<(typeof KEY_STATES)[number], string>;
}

const { secrets, tokens, messages, states } = JSON.parse(readFileSync(join(GOLDEN, 'messages.json'), 'utf8')) as Written;

/** Everything below a directory, files and directories. */
function below(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' }).map((name) => join(directory, name));
}

/** A copy with the modes that a data directory must have and git does not keep. */
function copyOf(t: ExecutionContext): Place {
  const directory = mkdtempSync(join(tmpdir(), 'kms-golden-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  cpSync(GOLDEN, directory, { recursive: true });
  const dataDir = join(directory, 'data');
  cpSync(join(directory, 'audit.jsonl'), join(dataDir, 'kms-audit.log'));
  for (const path of below(directory)) chmodSync(path, statSync(path).isDirectory() ? 0o700 : 0o600);
  return { directory, dataDir, masterKeyFile: join(directory, 'TEST-ONLY-master.key') };
}

async function openedAt(t: ExecutionContext, { dataDir, masterKeyFile }: Place): Promise<EmbeddedKms> {
  const kms = await createEmbeddedKms({ dataDir, masterKeyFile, initialise: false });
  t.teardown(() => kms.close());
  return kms;
}

const aadOf = ({ aad }: Message) => (aad === null ? undefined : Buffer.from(aad));

/** Every message decrypts, and only in its database and with its AAD. */
async function allDecrypt(t: ExecutionContext, kms: EmbeddedKms): Promise<void> {
  const databases = [await openedIn(t, kms, secrets[0]), await openedIn(t, kms, secrets[1])] as const;
  await databases[0].enableKey(states.disabled);
  for (const message of messages) {
    const sealed = Buffer.from(message.ciphertext, 'base64');
    const decrypt = (on: EmbeddedKms | (typeof databases)[number], aad = aadOf(message)) =>
      message.keyId === null ? on.decrypt(sealed, aad) : on.decryptWithDek(message.keyId, sealed, aad);
    const home = message.database === null ? kms : databases[message.database]!;
    t.is(Buffer.from(await decrypt(home)).toString(), message.plaintext);
    await t.throwsAsync(decrypt(home, Buffer.from('another')), { message: ERROR_TABLE.AUTHENTICATION_FAILED.message });
    const code = message.keyId === null ? 'AUTHENTICATION_FAILED' : 'KEY_NOT_FOUND';
    for (const other of [kms, ...databases]) if (other !== home) await t.throwsAsync(decrypt(other), { code });
  }
  for (const database of databases) database.leave();
}

test('every message of a database decrypts with its secret, from files', async (t) => {
  await allDecrypt(t, await openedAt(t, copyOf(t)));
});

test('every message of a database decrypts with its secret, from an LMDB store', async (t) => {
  const place = copyOf(t);
  for (const name of ['kms-deks', 'kms-deks-backup', 'kms-databases']) rmSync(join(place.dataDir, name), { recursive: true });
  cpSync(join(place.directory, 'keys.lmdb'), join(place.dataDir, 'keys.lmdb'));
  await allDecrypt(t, await openedAt(t, place));
});

test('a backup with databases verifies, and what is restored of it decrypts every message', async (t) => {
  const place = copyOf(t);
  const path = join(place.directory, 'store.backup');
  t.deepEqual(await checkBackup(path, place), []);
  const dataDir = join(place.directory, 'restored');
  const restored = await restoreBackup({ path, dataDir, master: master(place), ...RESTORING });
  t.like(restored, { records: 1, leftOut: [], keysMissing: [], hasTokens: true });
  const kms = await openedAt(t, { ...place, dataDir });
  await allDecrypt(t, kms);
  const { usesReserved } = await (await openedIn(t, kms, secrets[0])).describeKey(states.active);
  t.is(usesReserved, 1_024 + RESTORED_USES);
});

test('databases go on: their keys are listed, encrypt, change their states, and are moved by a rotation', async (t) => {
  const kms = await openedAt(t, copyOf(t));
  for await (const one of kms.databases()) t.like(one, { createdBy: 'uid:1', fault: null });
  const database = await openedIn(t, kms, secrets[0]);
  const { keys } = await database.listKeys();
  t.is(keys.length, 4, 'the default key is one');
  for (const state of KEY_STATES) t.is((await database.describeKey(states[state])).state, state);
  const { active } = states;
  t.is((await database.describeKey(active)).threadId, 'golden/thread:1');
  const { ciphertext } = await database.encryptWithDek(active, Buffer.from('new'));
  t.is((await kms.rotateKek({ wait: true })).kekVersion, '3');
  await allDecrypt(t, kms);
  t.is(Buffer.from(await database.decryptWithDek(active, ciphertext)).toString(), 'new');
  t.is((await database.disableKey(active)).state, 'disabled');
  await t.throwsAsync(database.decryptWithDek(active, ciphertext), { code: 'KEY_DISABLED' });
  const sealed = await database.encrypt(Buffer.from('by default'));
  t.is((await database.listKeys()).keys.length, 4, 'the default key is the same one');
  t.is(Buffer.from(await database.decrypt(sealed)).toString(), 'by default');
});

/** The documents of databases as their files are named in docs/FORMATS.md. */
function documentsIn(dataDir: string): Map<string, Buffer> {
  const root = join(dataDir, 'kms-databases');
  const files = below(root).filter((path) => statSync(path).isFile());
  return new Map(files.map((path) => [relative(root, path).replace(/\.database$/, ''), readFileSync(path)]));
}

function outsideOf({ dataDir, masterKeyFile }: Place): Outside {
  const { keys } = openedStore(dataDir, masterKeyFile);
  const { store_id: storeId } = JSON.parse(readFileSync(join(dataDir, 'keyring.json'), 'utf8'));
  return { storeId, kek: keys.get('kek')!, recordMac: keys.get('record-mac')! };
}

function isRead(t: ExecutionContext, databases: readonly ReadDatabase[]): void {
  t.deepEqual(
    databases.map(({ createdBy, shares }) => [createdBy, shares]),
    [
      ['uid:1', 2],
      ['uid:1', 1],
    ],
  );
  for (const state of KEY_STATES) t.is(databases[0]!.states.get(states[state]), state);
  for (const message of messages) {
    if (message.database === null) continue;
    const { deks, defaultKeyId } = databases[message.database]!;
    const sealed = Buffer.from(message.ciphertext, 'base64');
    const header = message.keyId === null ? sealed.subarray(0, 17) : Buffer.alloc(0);
    const keyId = message.keyId ?? `k_${header.subarray(1).toString('hex')}`;
    if (message.keyId === null) t.is(keyId, defaultKeyId);
    const aad = Buffer.concat([header, aadOf(message) ?? Buffer.alloc(0)]);
    t.is(opened(deks.get(keyId)!, sealed.subarray(header.length), aad).toString(), message.plaintext);
  }
}

test('docs/FORMATS.md alone is enough to read databases, from files and from a backup', (t) => {
  const place = copyOf(t);
  const { dataDir, directory } = place;
  const outside = outsideOf(place);
  const documents = documentsIn(dataDir);
  t.is(documents.size, 8);
  isRead(
    t,
    secrets.map((secret) => readDatabase(outside, secret, documents)),
  );
  const path = join(directory, 'store.backup');
  t.is(readFileSync(path).subarray(0, 5).toString('latin1'), '\x03pkb2');
  const entries = entriesOf(path);
  t.is(entries.map(({ type }) => type).join(''), 'RDDDDDDDDKTAMS');
  const backedUp = new Map(
    entries
      .filter(({ type }) => type === 'D')
      .map(({ bytes }) => fieldsOf(bytes))
      .map(([name, document]) => [`${name}`, document!]),
  );
  t.deepEqual(
    [...backedUp].sort(),
    [...documents].sort(([a], [b]) => (a < b ? -1 : 1)),
  );
});

test('what is written into databases today is what docs/FORMATS.md says', async (t) => {
  const place = copyOf(t);
  const kms = await openedAt(t, place);
  const secret = await madeIn(kms, 'uid:7');
  const database = await openedIn(t, kms, secret);
  const { keyId } = await database.createDekForThread('new');
  const { ciphertext } = await database.encryptWithDek(keyId, Buffer.from('of today'));
  await database.encrypt(Buffer.from('by default'));
  await kms.close();
  const documents = documentsIn(place.dataDir);
  const read = readDatabase(outsideOf(place), secret, documents);
  t.like(read, { databaseId: database.databaseId, createdBy: 'uid:7', shares: 1 });
  t.is(opened(read.deks.get(keyId)!, Buffer.from(ciphertext), Buffer.alloc(0)).toString(), 'of today');
  t.deepEqual([...read.states.keys()].sort(), [keyId, read.defaultKeyId].sort());
  const [known] = [...documents.keys()].filter((name) => name.includes('/'));
  for (const [name, { length }] of documents) if (name.includes('/')) t.is(length, documents.get(known!)!.length, name);
});

test('access tokens are known by their texts, with their roles', (t) => {
  const { dataDir } = copyOf(t);
  const known = new Tokens(dataDir);
  t.is(known.count(), 2);
  for (const { token, tokenId, roles } of tokens) {
    const identity = known.identify(token)!;
    t.is(identity.actor, `token:${tokenId}`);
    t.deepEqual([...identity.roles].sort(), roles);
  }
});

test('the audit log verifies, by both verifiers, and goes on', async (t) => {
  const place = copyOf(t);
  const log = join(place.dataDir, 'kms-audit.log');
  const [start] = readFileSync(log, 'utf8').split('\n', 1) as [string];
  const judged = { publicKey: JSON.parse(start).event.signing_key };
  const ground = new Ground();
  t.teardown(() => ground.clear());
  const lines = () => readFileSync(log, 'utf8').trim().split('\n').length;
  const written = lines();
  const verified = async () => {
    t.like(await ground.verify([log], judged), { fault: null, lines: lines() });
    t.like(await ground.independently([log], judged), { fault: null, lines: lines() });
  };
  await verified();
  await (await openedAt(t, place)).close();
  t.true(lines() > written);
  await verified();
});
