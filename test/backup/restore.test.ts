import { createHash } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { NO_AUDIT } from '../../dist/audit/audit-log.js';
import { verifyIndependently } from '../../dist/audit/independent.js';
import { createBackup } from '../../dist/backup/create.js';
import { type RestoreOptions, restoreBackup } from '../../dist/backup/restore.js';
import { refuseInterrupted } from '../../dist/backup/target.js';
import { createToken, listTokens } from '../../dist/daemon/token-writer.js';
import { KmsError } from '../../dist/errors.js';
import type { Snapshot } from '../../dist/kms/snapshot.js';
import { binding } from '../../dist/native.js';
import { nodeFileSystem } from '../../dist/store/file-system.js';
import { type KeyringJson, keyringPath, readJson, recordPath, rewriteRecord } from '../provider/edited.js';
import { refused } from '../provider/refused.js';
import { newPlace, openAt, type Place } from '../provider/subjects.js';
import { copyDirectory } from '../store/data-dir.js';
import { interceptedFileSystem, systemError } from '../store/intercepted.js';
import { backupOf, type Filled, filled, MESSAGE, master, pathIn, RESTORING } from './ground.js';

const FORCE = { force: true, acceptRollback: true };

interface Ground extends Filled {
  path: string;
}

/** A closed store and its backup. */
async function ground(t: ExecutionContext): Promise<Ground> {
  const store = await filled(t);
  const path = pathIn(store.place);
  await store.kms.close();
  const kms = await openAt(t, store.place);
  await backupOf(kms, path);
  await kms.close();
  return { ...store, path };
}

function restore({ place, path }: Ground, dataDir: string, options: Partial<RestoreOptions> = {}) {
  return restoreBackup({ path, dataDir, master: master(place), ...RESTORING, ...options });
}

/** Everything in a directory with its content. */
function contentOf(directory: string): Record<string, string> {
  const names = readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter((name) => name !== 'lock');
  const files = names.filter((name) => statSync(join(directory, name)).isFile()).sort();
  return Object.fromEntries(files.map((name) => [name, readFileSync(join(directory, name), 'latin1')]));
}

/** What a restore would leave beside a directory. */
function besides({ directory }: Place): string[] {
  return readdirSync(directory).filter((name) => name.includes('restore'));
}

async function serves(t: ExecutionContext, store: Ground, place: Place): Promise<void> {
  const kms = await openAt(t, place);
  t.deepEqual(Buffer.from(await kms.decryptWithDek(store.active, store.ciphertext)), MESSAGE);
  t.deepEqual(Buffer.from(await kms.decrypt(store.sealed)), MESSAGE);
  const { ciphertext } = await kms.encryptWithDek(store.active, MESSAGE);
  t.deepEqual(Buffer.from(await kms.decryptWithDek(store.active, ciphertext)), MESSAGE);
  await refused(t, kms.decryptWithDek(store.disabled, store.ciphertext), 'KEY_DISABLED');
  await refused(t, kms.decryptWithDek(store.destroyed, store.ciphertext), 'KEY_DESTROYED');
  t.is((await kms.health()).status, 'ok');
  await kms.close();
}

const elsewhere = (t: ExecutionContext, store: Ground): Place => {
  const place = newPlace(t);
  return { ...place, masterKeyFile: store.place.masterKeyFile };
};

test('a restored store serves as before, with every use count raised and a higher generation', async (t) => {
  const store = await ground(t);
  const to = elsewhere(t, store);
  const restored = await restore(store, to.dataDir);
  const before = readJson<KeyringJson>(keyringPath(store.place));
  t.like(restored, {
    records: 4,
    setAside: null,
    keysMissing: [],
    exhausted: 0,
    hasTokens: false,
    auditLinesAfter: 0,
    beginsAuditLog: true,
    leftOut: [],
  });
  const after = readJson<KeyringJson>(keyringPath(to));
  t.true(after.generation > before.generation);
  t.is(restored.generation, after.generation);
  t.is(after.store_id, before.store_id);
  t.deepEqual(
    after.keks.map(({ wraps_reserved }) => wraps_reserved),
    before.keks.map(({ wraps_reserved }) => wraps_reserved + 2 ** 28),
  );
  for (const keyId of [store.active, store.disabled]) {
    const [was, is] = [store.place, to].map((place) =>
      readJson<{ uses_reserved: number; version: number }>(recordPath(place, keyId)),
    );
    t.is(is!.uses_reserved, was!.uses_reserved + 2 ** 28);
    t.is(is!.version, was!.version + 1);
  }
  t.deepEqual(readFileSync(recordPath(to, store.destroyed)), readFileSync(recordPath(store.place, store.destroyed)));
  t.deepEqual(besides(to), []);
  t.is(statSync(to.dataDir).mode & 0o777, 0o700);
  await serves(t, store, to);
});

test('a key whose count comes to its end by a restore decrypts, and encrypts no more', async (t) => {
  const store = await filled(t);
  await store.kms.close();
  rewriteRecord(store.place, store.active, { uses_reserved: 2 ** 32 - 2 ** 28 + 5 });
  const kms = await openAt(t, store.place);
  await backupOf(kms, pathIn(store.place));
  await kms.close();
  const whole = { ...store, path: pathIn(store.place) };
  const to = elsewhere(t, whole);
  t.is((await restore(whole, to.dataDir)).exhausted, 1);
  t.is(readJson<{ uses_reserved: number }>(recordPath(to, store.active)).uses_reserved, 2 ** 32);
  const restored = await openAt(t, to);
  await refused(t, restored.encryptWithDek(store.active, MESSAGE), 'KEY_EXHAUSTED');
  t.deepEqual(Buffer.from(await restored.decryptWithDek(store.active, store.ciphertext)), MESSAGE);
});

test('tokens come back as they were', async (t) => {
  const store = await filled(t);
  await createToken(store.place.dataDir, { roles: ['client'], name: 'kept' });
  await backupOf(store.kms, pathIn(store.place));
  const whole = { ...store, path: pathIn(store.place) };
  const to = elsewhere(t, whole);
  t.true((await restore(whole, to.dataDir)).hasTokens);
  t.deepEqual(
    (await listTokens(to.dataDir)).map(({ name }) => name),
    ['kept'],
  );
  t.is(statSync(join(to.dataDir, 'tokens.json')).mode & 0o777, 0o600);
});

test('a default key that is not in the backup is made anew', async (t) => {
  const store = await filled(t);
  // As if the default key had been made after its turn among the records.
  const { default_key_id: first } = readJson<KeyringJson>(keyringPath(store.place));
  const snapshot = store.kms.snapshot();
  const late = {
    audit: NO_AUDIT,
    records: async function* () {
      for await (const record of snapshot.records()) if (record.keyId !== first) yield record;
    },
    hasDatabases: () => snapshot.hasDatabases(),
    keyring: (info: string) => snapshot.keyring(info),
    mac: (data: Uint8Array) => snapshot.mac(data),
  } as unknown as Snapshot;
  await createBackup(late, { path: pathIn(store.place), dataDir: null, actor: 'uid:0' });
  snapshot.release();
  const whole = { ...store, path: pathIn(store.place) };
  const to = elsewhere(t, whole);
  await restore(whole, to.dataDir);
  const kms = await openAt(t, to);
  t.deepEqual(Buffer.from(await kms.decrypt(await kms.encrypt(MESSAGE))), MESSAGE);
  t.not(readJson<KeyringJson>(keyringPath(to)).default_key_id, first);
});

test('an empty directory is taken, one that holds anything only when that is forced, and then it is kept aside', async (t) => {
  const store = await ground(t);
  const to = elsewhere(t, store);
  mkdirSync(to.dataDir, { mode: 0o700 });
  await restore(store, to.dataDir);
  await serves(t, store, to);
  const later = await openAt(t, to);
  const { keyId } = await later.createDek();
  await later.close();
  writeFileSync(join(to.dataDir, 'notes.txt'), 'of the operator');
  const before = contentOf(to.dataDir);
  await refused(t, restore(store, to.dataDir), 'CONFLICT', /is not empty: --force sets it aside/);
  await refused(t, restore(store, to.dataDir, { force: true }), 'CONFLICT', /has gone on since this backup.*--accept-rollback/);
  t.deepEqual(contentOf(to.dataDir), before);
  t.deepEqual(besides(to), []);
  const restored = await restore(store, to.dataDir, FORCE);
  t.deepEqual(contentOf(restored.setAside!), before);
  t.deepEqual(restored.keysMissing, [keyId]);
  t.true(restored.generation > JSON.parse(before['keyring.json']!).generation, 'above all that was there');
  t.deepEqual(besides(to), [restored.setAside!.split('/').at(-1)!]);
  await serves(t, store, to);
});

test('a wrong master key, a directory in use, a link and a missing parent touch nothing', async (t) => {
  const store = await ground(t);
  const to = elsewhere(t, store);
  mkdirSync(to.dataDir, { mode: 0o700 });
  writeFileSync(join(to.dataDir, 'something'), 'x');
  await refused(t, restore(store, to.dataDir, { ...FORCE, master: master(newPlace(t)) }), 'UNAUTHENTICATED', /opens no slot/);
  t.deepEqual(readdirSync(to.dataDir), ['something']);
  const lock = binding.lockDirectory(to.dataDir);
  await refused(t, restore(store, to.dataDir, FORCE), 'CONFLICT', /is in use by another process$/);
  binding.unlock(lock);
  symlinkSync(to.dataDir, join(to.directory, 'link'));
  await refused(t, restore(store, join(to.directory, 'link'), FORCE), 'INVALID_ARGUMENT', /is a link/);
  await refused(t, restore(store, join(to.directory, 'no', 'such')), 'STORE_UNAVAILABLE', /ENOENT/);
  t.deepEqual(contentOf(to.dataDir), { something: 'x' });
  t.deepEqual(besides(to), []);
});

test('a mount point is refused, with what to do instead', async (t) => {
  const store = await ground(t);
  const to = elsewhere(t, store);
  mkdirSync(to.dataDir, { mode: 0o700 });
  const fileSystem = interceptedFileSystem(({ op }, proceed, [path]) => {
    if (op !== 'lstat' || path !== to.dataDir) return proceed();
    return (proceed() as Promise<object>).then((stats) => Object.assign(stats, { dev: 1 }));
  });
  await refused(t, restore(store, to.dataDir, { fileSystem }), 'UNSUPPORTED', /is a mount point.*data\/kms$/);
});

interface Line {
  event: {
    seq: number;
    prev: string;
    type: string;
    signing_key?: string;
    public?: string;
    backup_seq?: number;
    backup_sha256?: string;
  };
}

function linesIn(dataDir: string): string[] {
  return readFileSync(join(dataDir, 'kms-audit.log'), 'utf8').trimEnd().split('\n');
}

const sha256 = (line: string | Buffer) => createHash('sha256').update(line).digest('hex');

/** Each line follows the one before, and each key that signs was announced by the one before. */
function follows(t: ExecutionContext, lines: readonly string[]): void {
  let [prev, seq, key] = ['0'.repeat(64), 0, ''];
  for (const line of lines) {
    const { event } = JSON.parse(line) as Line;
    t.deepEqual([event.prev, event.seq], [prev, seq + 1]);
    if (key !== '' && event.signing_key !== undefined) t.is(event.signing_key, key, line);
    key = event.public ?? event.signing_key ?? key;
    [prev, seq] = [sha256(line), event.seq];
  }
}

test('the audit log goes on after a restore, which is a line in it that names the end of the log at the backup', async (t) => {
  const store = await ground(t);
  const dataDir = elsewhereCopied(t, store);
  const before = linesIn(dataDir);
  await refused(t, restore(store, dataDir, { force: true }), 'CONFLICT', /and \d+ lines more in its audit log\)/);
  const restored = await restore(store, dataDir, FORCE);
  t.false(restored.beginsAuditLog);
  const after = linesIn(dataDir);
  t.deepEqual(after.slice(0, before.length), before);
  follows(t, after);
  const { event } = JSON.parse(after.find((line) => line.includes('"type":"restore"'))!) as Line;
  t.is(event.backup_seq, before.length - restored.auditLinesAfter);
  t.is(event.backup_sha256, sha256(before[event.backup_seq! - 1]!));
  t.is(statSync(join(dataDir, 'kms-audit.log')).mode & 0o777, 0o600);
  await serves(t, store, { directory: join(dataDir, '..'), dataDir, masterKeyFile: store.place.masterKeyFile });
  follows(t, linesIn(dataDir));
});

test('where there was no log one begins, and a start needs no permission to go on', async (t) => {
  const store = await ground(t);
  const to = elsewhere(t, store);
  await restore(store, to.dataDir);
  follows(t, linesIn(to.dataDir));
  t.true(linesIn(to.dataDir).some((line) => line.includes('"type":"restore"')));
  await serves(t, store, to);
  follows(t, linesIn(to.dataDir));
});

test('where the keyring beside the log cannot be read, the log is kept whole beside another one, and both can be verified', async (t) => {
  const store = await ground(t);
  const dataDir = elsewhereCopied(t, store);
  const log = readFileSync(join(dataDir, 'kms-audit.log'));
  // As if it had become long in the middle.
  const half = log.indexOf('\n', log.length / 2) + 1;
  const [first, second] = [log.subarray(0, half), log.subarray(half)];
  writeFileSync(join(dataDir, 'kms-audit-0000000000000001.log'), first, { mode: 0o600 });
  writeFileSync(join(dataDir, 'kms-audit.log'), second);
  writeFileSync(join(dataDir, 'keyring.json'), 'torn');
  await refused(t, restore(store, dataDir, { force: true }), 'CONFLICT', /has gone on since this backup/);
  t.true((await restore(store, dataDir, FORCE)).beginsAuditLog);
  const aside = readdirSync(dataDir).filter((name) => name.includes('.torn-'));
  const kept = aside.map((name) => readFileSync(join(dataDir, name), 'utf8'));
  t.deepEqual(kept.sort(), [String(first), String(second)].sort());
  for (const bytes of [first, second]) {
    t.true(linesIn(dataDir).some((line) => line.includes('"type":"recovered"') && line.includes(sha256(bytes))));
  }
  const [start] = linesIn(dataDir).map((line) => (JSON.parse(line) as Line).event);
  const publicKey = start!.signing_key!;
  t.true((await verifyIndependently([join(dataDir, 'kms-audit.log')], { publicKey })).ok);
  await serves(t, store, { directory: join(dataDir, '..'), dataDir, masterKeyFile: store.place.masterKeyFile });
  t.true((await verifyIndependently([join(dataDir, 'kms-audit.log')], { publicKey })).ok);
});

test('no restore is without its line: where none can be written, nothing is touched', async (t) => {
  const store = await ground(t);
  const dataDir = elsewhereCopied(t, store);
  const before = contentOf(dataDir);
  const openAudit = async () => {
    throw new KmsError('AUDIT_UNAVAILABLE');
  };
  await refused(t, restore(store, dataDir, { ...FORCE, openAudit }), 'AUDIT_UNAVAILABLE');
  t.deepEqual(contentOf(dataDir), before);
  t.deepEqual(
    readdirSync(join(dataDir, '..')).filter((name) => name.includes('restore')),
    [],
  );
});

function elsewhereCopied(t: ExecutionContext, store: Ground): string {
  const to = newPlace(t);
  copyDirectory(store.place.dataDir, to.dataDir);
  return to.dataDir;
}

test('the log and the generation of another store are nothing to go by', async (t) => {
  const store = await ground(t);
  const other = await filled(t);
  for (let i = 0; i < 70; i += 1) await other.kms.createDek();
  await other.kms.close();
  const lines = linesIn(other.place.dataDir);
  const restored = await restore(store, other.place.dataDir, { force: true });
  t.deepEqual(linesIn(restored.setAside!), lines, 'it stays with what was set aside');
  const fresh = linesIn(other.place.dataDir);
  follows(t, fresh);
  t.false(fresh.some((line) => lines.includes(line)));
});

for (const [what, fails] of [
  ['a write', (op: string) => op === 'write'],
  ['an fsync', (op: string) => op === 'fsync'],
  ['the first rename', (op: string, of: string) => op === 'rename' && of === 'data'],
  ['the second rename', (op: string, of: string) => op === 'rename' && of.startsWith('.data.restore-')],
] as Array<[string, (op: string, of: string) => boolean]>) {
  test(`${what} that fails leaves the old directory in its place`, async (t) => {
    const store = await ground(t);
    const dataDir = elsewhereCopied(t, store);
    const before = contentOf(dataDir);
    const fileSystem = interceptedFileSystem(({ op, of }, proceed) => {
      if (fails(op, of)) throw systemError('EIO', op);
      return proceed();
    });
    await refused(t, restore(store, dataDir, { ...FORCE, fileSystem }), 'STORE_UNAVAILABLE', /EIO/);
    t.deepEqual(contentOf(dataDir), before);
    t.deepEqual(
      readdirSync(join(dataDir, '..')).filter((name) => name.includes('restore')),
      [],
    );
    await t.notThrowsAsync(restore(store, dataDir, FORCE));
  });
}

test('what is restored by root belongs to the user whose directory it is', async (t) => {
  if (process.geteuid?.() !== 0) {
    t.log('not tried: only root gives files away');
    t.pass();
    return;
  }
  const store = await ground(t);
  const to = elsewhere(t, store);
  mkdirSync(to.dataDir, { mode: 0o700 });
  chownSync(to.dataDir, 4711, 4712);
  await restore(store, to.dataDir);
  const owners = ['.', 'lock', 'keyring.json', 'kms-deks', `kms-deks/${store.active}.json`].map((name) => {
    const { uid, gid } = statSync(join(to.dataDir, name));
    return `${uid}:${gid}`;
  });
  t.deepEqual(new Set(owners), new Set(['4711:4712']));
});

test('a start after an interrupted restore makes no empty store in the gap', async (t) => {
  const store = await ground(t);
  const dataDir = elsewhereCopied(t, store);
  const to: Place = { directory: join(dataDir, '..'), dataDir, masterKeyFile: store.place.masterKeyFile };
  const before = contentOf(dataDir);
  // Neither the second rename nor what would put the first right.
  let renames = 0;
  const fileSystem = interceptedFileSystem(({ op }, proceed) => {
    if (op === 'rename' && ++renames > 1) throw systemError('EIO', 'rename');
    return proceed();
  });
  const kept = {
    ...fileSystem,
    ...nodeFileSystem,
    rename: fileSystem.rename,
    rmdir: () => Promise.reject(systemError('EIO', 'rmdir')),
  };
  await t.throwsAsync(restore(store, dataDir, { ...FORCE, fileSystem: kept }));
  t.false(existsSync(dataDir));
  await refused(t, openAt(t, to), 'STORE_UNAVAILABLE', /was interrupted: run it again/);
  t.false(existsSync(dataDir));
  // As a service manager does before a start.
  mkdirSync(dataDir, { mode: 0o700 });
  await refused(t, openAt(t, to), 'STORE_UNAVAILABLE', /was interrupted: run it again/);
  t.deepEqual(readdirSync(dataDir), []);
  await refused(t, restore(store, dataDir), 'CONFLICT', /is not empty/, 'the old directory is back');
  t.deepEqual(contentOf(dataDir), before);
  t.deepEqual(besides(to), []);
  await serves(t, store, to);
});

test('what others put where a restore could have left something is neither removed nor put in place', async (t) => {
  const store = await ground(t);
  const to = elsewhere(t, store);
  const [link, theirs] = ['20260101T000000000Z', '20260101T000000001Z'];
  const precious = join(to.directory, 'precious');
  mkdirSync(precious);
  writeFileSync(join(precious, 'file'), 'x');
  symlinkSync(precious, join(to.directory, `.data.restore-${link}`));
  const planted = [`.data.restore-${theirs}`, `data.before-restore-${theirs}`].map((name) => join(to.directory, name));
  for (const path of planted) {
    mkdirSync(path, { mode: 0o700 });
    writeFileSync(join(path, 'file'), 'y');
  }
  chmodSync(to.directory, 0o1777);
  const fileSystem = interceptedFileSystem(({ op }, proceed, [path]) => {
    if (op !== 'lstat' || !planted.includes(path as string)) return proceed();
    return (proceed() as Promise<object>).then((stats) => Object.assign(stats, { uid: 4711 }));
  });
  await t.notThrowsAsync(refuseInterrupted(fileSystem, to.dataDir));
  await restore(store, to.dataDir, { fileSystem });
  t.deepEqual(readdirSync(precious), ['file']);
  for (const path of planted) t.deepEqual(readdirSync(path), ['file']);
  await serves(t, store, to);
});
