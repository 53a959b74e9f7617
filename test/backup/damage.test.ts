import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { restoreBackup } from '../../dist/backup/restore.js';
import { badRecords, checkSeal, openBackup, scanBackup } from '../../dist/backup/verify.js';
import { binding } from '../../dist/native.js';
import { refused } from '../provider/refused.js';
import { newPlace, type Place } from '../provider/subjects.js';
import { checkBackup } from './checked.js';
import { backupOf, bytesOf, edited, entriesOf, type Filled, filled, master, pathIn, type RawEntry, RESTORING } from './ground.js';

interface Ground extends Filled {
  path: string;
}

async function ground(t: ExecutionContext): Promise<Ground> {
  const store = await filled(t);
  const path = pathIn(store.place);
  await backupOf(store.kms, path);
  return { ...store, path };
}

/** With the digest that anybody can make. */
function resealed(entries: RawEntry[]): RawEntry[] {
  const before = entries.slice(0, -1);
  const digest = createHash('sha256').update(bytesOf(before)).digest();
  return [...before, { type: 'S', bytes: Buffer.concat([digest, entries.at(-1)!.bytes.subarray(32)]) }];
}

function replacing(type: string, change: (text: string) => string): (entries: RawEntry[]) => RawEntry[] {
  return (entries) =>
    entries.map((one) => (one.type === type ? { type, bytes: Buffer.from(change(one.bytes.toString())) } : one));
}

/** Both refuse it for the same reason, and a restore leaves no trace. */
async function refusedByBoth(t: ExecutionContext, path: string, place: Place, detail: RegExp): Promise<void> {
  await refused(t, checkBackup(path, place), 'INVALID_ARGUMENT', detail);
  const to = newPlace(t);
  await refused(t, restoreBackup({ path, dataDir: to.dataDir, master: master(place), ...RESTORING }), 'INVALID_ARGUMENT', detail);
  t.throws(() => readFileSync(to.dataDir), { code: 'ENOENT' });
}

test('a backup with any one byte changed is refused', async (t) => {
  const { place, path } = await ground(t);
  const sound = readFileSync(path);
  const changed = pathIn(place, 'changed');
  for (let spot = 0; spot < sound.length; spot++) {
    const bytes = Buffer.from(sound);
    bytes[spot]! ^= 1 << (spot % 8);
    writeFileSync(changed, bytes);
    const error = await t.throwsAsync(checkBackup(changed, place), undefined, `byte ${spot}`);
    t.regex(error!.message, /is damaged|is no backup|of another version|is newer than this version/, `byte ${spot}`);
  }
});

test('a backup that ends early, anywhere, is refused, and says where', async (t) => {
  const { place, path } = await ground(t);
  const sound = readFileSync(path);
  const cut = pathIn(place, 'cut');
  for (let length = 0; length < sound.length; length += 1 + Math.floor(sound.length / 60)) {
    writeFileSync(cut, sound.subarray(0, length));
    await refused(
      t,
      scanBackup(cut),
      'INVALID_ARGUMENT',
      /is no backup$|is damaged: it ends (at byte \d+|after its first)/,
      `${length}`,
    );
  }
  writeFileSync(cut, Buffer.concat([sound, Buffer.of(0)]));
  await refusedByBoth(t, cut, place, /something follows its seal$/);
});

test('entries that are missing, repeated, out of order or unknown are refused', async (t) => {
  const { place, path } = await ground(t);
  const to = pathIn(place, 'edited');
  const without = (type: string) => (entries: RawEntry[]) => resealed(entries.filter((one) => one.type !== type));
  const cases: Array<[(entries: RawEntry[]) => RawEntry[], RegExp]> = [
    [without('K'), /no keyring or no manifest$/],
    [without('M'), /no keyring or no manifest$/],
    [(entries) => entries.slice(0, -1), /before its seal$/],
    [(entries) => resealed(entries.slice(1)), /it holds 3 records, and says 4$/],
    [(entries) => resealed([entries[0]!, ...entries]), /it holds 5 records, and says 4$/],
    [
      (entries) => resealed([entries[4]!, ...entries.slice(0, 4), ...entries.slice(5)]),
      /the record at byte \d+ is out of place$/,
    ],
    [
      (entries) => resealed([...entries.slice(0, 5), entries[4]!, ...entries.slice(5)]),
      /the keyring at byte \d+ is out of place$/,
    ],
    [(entries) => resealed([{ type: 'X', bytes: Buffer.alloc(3) }, ...entries]), /byte 5 begins nothing that it may hold$/],
    [(entries) => resealed([{ type: 'R', bytes: Buffer.alloc(5000) }, ...entries.slice(1)]), /byte 5 begins nothing/],
    [(entries) => [...entries.slice(0, -1), { type: 'S', bytes: Buffer.alloc(63) }], /its seal has the wrong length$/],
  ];
  for (const [edit, detail] of cases) await refusedByBoth(t, edited(path, to, edit), place, detail);
});

test('what was changed by somebody who made the digest anew is refused by the MAC', async (t) => {
  const { place, path } = await ground(t);
  const to = pathIn(place, 'edited');
  const tampered = /it was tampered with: its authentication code does not match$/;
  const swapped = ([a, b, ...rest]: RawEntry[]) => resealed([b!, a!, ...rest]);
  await refusedByBoth(t, edited(path, to, swapped), place, tampered);
  const dropped = (entries: RawEntry[]) =>
    resealed(replacing('M', (text) => text.replace('"records":4', '"records":3'))(entries.slice(1)));
  await refusedByBoth(t, edited(path, to, dropped), place, tampered);
  const withTokens = (entries: RawEntry[]) =>
    resealed([...entries.slice(0, 5), { type: 'T', bytes: Buffer.from('{"format":1,"tokens":[]}\n') }, ...entries.slice(5)]);
  await refusedByBoth(t, edited(path, to, withTokens), place, tampered);
  const withAudit = (entries: RawEntry[]) => resealed(replacing('A', (text) => text.replace(/"seq":\d+/, '"seq":1'))(entries));
  await refusedByBoth(t, edited(path, to, withAudit), place, tampered);
  await refusedByBoth(
    t,
    edited(path, to, (entries) =>
      resealed(replacing('M', (text) => text.replace(/"created_at":"..../, '"created_at":"1999'))(entries)),
    ),
    place,
    tampered,
  );
});

test('a keyring of another store, or of another time, is refused', async (t) => {
  const { place, path, kms } = await ground(t);
  const to = pathIn(place, 'edited');
  const other = await ground(t);
  const keyringOf = (of: string) => entriesOf(of).find(({ type }) => type === 'K')!.bytes;
  const foreign = keyringOf(other.path).toString();
  await refusedByBoth(
    t,
    edited(path, to, (entries) => resealed(replacing('K', () => foreign)(entries))),
    place,
    /its manifest is of another keyring$/,
  );
  await kms.createDek();
  for (let i = 0; i < 70; i += 1) await kms.createDek();
  await backupOf(kms, pathIn(place, 'later'));
  const later = keyringOf(pathIn(place, 'later')).toString();
  t.not(later, keyringOf(path).toString());
  await refusedByBoth(
    t,
    edited(path, to, (entries) => resealed(replacing('K', () => later)(entries))),
    place,
    /its manifest is of another keyring$/,
  );
  await refusedByBoth(
    t,
    edited(path, to, (entries) => resealed(replacing('K', (text) => text.replace('"active"', '"Active"'))(entries))),
    place,
    /its keyring: /,
  );
  await refusedByBoth(
    t,
    edited(path, to, (entries) => resealed(replacing('K', (text) => text.replace(/"sha256": "./, '"sha256": "!'))(entries))),
    place,
    /its keyring: /,
  );
});

test('a manifest that breaks a rule is refused', async (t) => {
  const { place, path } = await ground(t);
  const to = pathIn(place, 'edited');
  const cases: Array<(text: string) => string> = [
    (text) => text.replace('"format":1', '"format":2'),
    (text) => text.replace('}', ',"more":1}'),
    (text) => text.replace('"left_out":[]', '"left_out":["../x"]'),
    (text) => text.replace('"records":4', '"records":4.5'),
    (text) => text.replace('"created_by":"uid:0"', '"created_by":""'),
    () => '[]',
    () => 'null',
  ];
  for (const change of cases)
    await refusedByBoth(
      t,
      edited(path, to, (entries) => resealed(replacing('M', change)(entries))),
      place,
      /its manifest breaks a rule$/,
    );
  await refusedByBoth(
    t,
    edited(path, to, (entries) => resealed(replacing('M', () => '{')(entries))),
    place,
    /its manifest is no JSON$/,
  );
});

test('a newer version is refused by name, and what is no backup as such', async (t) => {
  const { place, path } = await ground(t);
  const to = pathIn(place, 'other');
  writeFileSync(to, bytesOf(entriesOf(path), '3'));
  await refused(t, scanBackup(to), 'UNSUPPORTED', /is a backup of another version than this program knows$/);
  for (const text of ['', 'x', '{"format":1}']) {
    writeFileSync(to, text);
    await refused(t, scanBackup(to), 'INVALID_ARGUMENT', /is no backup$/);
  }
  await refused(t, scanBackup(place.directory), 'INVALID_ARGUMENT', /is not a regular file$/);
  await refused(t, scanBackup('/dev/null'), 'INVALID_ARGUMENT', /is not a regular file$/);
  await refused(t, scanBackup(pathIn(place, 'absent')), 'INVALID_ARGUMENT', /cannot be read: ENOENT$/);
});

test('another master key opens nothing, and a damaged record is named with the key', async (t) => {
  const { place, path, active } = await ground(t);
  await refused(t, checkBackup(path, newPlace(t)), 'UNAUTHENTICATED', /opens no slot/);
  const to = pathIn(place, 'damaged');
  edited(
    path,
    to,
    replacing('R', (text) => text.replace('backup/a', 'backup/z')),
  );
  const backup = openBackup(await scanBackup(to), master(place));
  t.false(backup.isWhole);
  const bad: string[] = [];
  for await (const { keyId, reason } of badRecords(backup, () => {})) bad.push(`${keyId}: ${reason}`);
  backup.vault.close();
  t.deepEqual(bad, [`${active}: its authentication code does not match`]);
});

test('a backup that changes between its two readings is refused', async (t) => {
  const { place, path } = await ground(t);
  const backup = openBackup(await scanBackup(path), master(place));
  await checkSeal(backup);
  edited(
    path,
    path,
    replacing('M', (text) => text.replace(/"created_at":"..../, '"created_at":"1999')),
  );
  const read = async () => {
    for await (const { keyId } of badRecords(backup, () => {})) t.fail(keyId);
  };
  await refused(t, read, 'INVALID_ARGUMENT', /was changed while it was read$/);
  backup.vault.close();
});

test.serial('a check leaves no key in memory', async (t) => {
  const { place, path, kms } = await ground(t);
  await kms.close();
  const { used } = binding.arenaInfo();
  await checkBackup(path, place);
  await t.throwsAsync(checkBackup(path, newPlace(t)));
  t.is(binding.arenaInfo().used, used);
});
