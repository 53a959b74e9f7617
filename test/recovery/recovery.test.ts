import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { parseShare } from '../../dist/recovery/share.js';
import { joinShares } from '../../dist/recovery/split.js';
import { backupOf, MESSAGE, pathIn } from '../backup/ground.js';
import { newPlace, openAt, type Place, served } from '../provider/subjects.js';
import { cli, on } from './ground.js';

interface Ground {
  place: Place;
  keyId: string;
  ciphertext: Uint8Array;
  shares: string[];
  slotId: string;
}

async function ground(t: ExecutionContext): Promise<Ground> {
  const place = newPlace(t);
  const kms = await openAt(t, place);
  const { keyId } = await kms.createDek();
  const { ciphertext } = await kms.encryptWithDek(keyId, MESSAGE);
  await backupOf(kms, pathIn(place));
  await kms.close();
  const { stdout, stderr, exit } = await cli(place, [
    'recovery',
    'create',
    '--shares',
    '5',
    '--threshold',
    '3',
    '--json',
    ...on(place),
  ]);
  t.is(exit, 0, stderr);
  const { shares, slot_id } = JSON.parse(stdout);
  t.is(shares.length, 5);
  return { place, keyId, ciphertext, shares, slotId: slot_id };
}

function everyFile(directory: string): Array<[string, string, number]> {
  const names = readdirSync(directory, { recursive: true, encoding: 'utf8' }).sort();
  const files = names.map((name) => join(directory, name)).filter((path) => statSync(path).isFile());
  return files.map((path) => [path, readFileSync(path, 'latin1'), statSync(path).mtimeMs]);
}

test('shares open the store by a new master key when the old one is lost', async (t) => {
  const { place, keyId, ciphertext, shares, slotId } = await ground(t);
  rmSync(place.masterKeyFile);
  const [, , ...last] = shares;
  const opened = await cli(place, ['recovery', 'open', ...on(place)], last.join('\n'));
  t.is(opened.exit, 0, opened.stderr);
  t.regex(opened.stdout, /^made the master key file .*\nit opens .* as slot s_[0-9a-f]{32}\n$/);
  t.is(statSync(place.masterKeyFile).mode & 0o777, 0o600);
  const kms = await openAt(t, place);
  t.deepEqual(Buffer.from(await kms.decryptWithDek(keyId, ciphertext)), MESSAGE);
  const slots = await kms.slots();
  const mine = slots.find(({ inUse }) => inUse)!;
  t.true(opened.stdout.includes(mine.slotId));
  t.like(mine, { kind: 'master', expiresAt: null });
  t.like(
    slots.find((slot) => slot.slotId === slotId),
    { kind: 'recovery', expiresAt: null },
  );
  t.is(slots.length, 3);
});

test('with neither data directory nor master key, shares restore a backup and take a new master key', async (t) => {
  const { place, keyId, ciphertext, shares } = await ground(t);
  const kms = await openAt(t, place);
  await backupOf(kms, pathIn(place, 'later'));
  await kms.close();
  rmSync(place.dataDir, { recursive: true });
  rmSync(place.masterKeyFile);
  const some = shares.slice(0, 3).join('\n');
  const few = await cli(place, ['restore', pathIn(place, 'later'), '--with-shares', '--data-dir', place.dataDir], shares[0]);
  t.is(few.exit, 2);
  t.false(existsSync(place.dataDir));
  const older = await cli(place, ['restore', pathIn(place), '--with-shares', '--data-dir', place.dataDir], some);
  t.is(older.exit, 12, 'made before the shares');
  const restored = await cli(place, ['restore', pathIn(place, 'later'), '--with-shares', '--data-dir', place.dataDir], some);
  t.is(restored.exit, 0, restored.stderr);
  t.regex(restored.stdout, /^keys: +1$/m);
  t.is((await cli(place, ['recovery', 'open', ...on(place)], some)).exit, 0);
  const again = await openAt(t, place);
  t.deepEqual(Buffer.from(await again.decryptWithDek(keyId, ciphertext)), MESSAGE);
});

test('a recovery slot does not expire, unused as it is', async (t) => {
  const { place, slotId } = await ground(t);
  const slots = await (await openAt(t, place)).slots();
  t.is(slots.find((slot) => slot.slotId === slotId)?.expiresAt, null);
});

test('a drill proves the shares on the store and on a backup, and changes nothing', async (t) => {
  const { place, shares, slotId } = await ground(t);
  const kms = await openAt(t, place);
  await backupOf(kms, pathIn(place, 'later'));
  await kms.close();
  const before = everyFile(place.dataDir);
  const drilled = await cli(place, ['recovery', 'drill', '--json', ...on(place)], shares.slice(0, 3).join('\n'));
  t.is(drilled.exit, 0, drilled.stderr);
  t.like(JSON.parse(drilled.stdout), { opens: true, slot_id: slotId, kind: 'recovery', keks: 1 });
  t.deepEqual(everyFile(place.dataDir), before);
  const onBackup = await cli(place, ['recovery', 'drill', '--backup', pathIn(place, 'later')], shares.slice(1, 4).join('\n'));
  t.is(onBackup.exit, 0, onBackup.stderr);
  const tooOld = await cli(place, ['recovery', 'drill', '--backup', pathIn(place)], shares.slice(1, 4).join('\n'));
  t.is(tooOld.exit, 12);
  t.regex(tooOld.stderr, /the shares fit each other, and open nothing here.*\nhint: .*of a slot that was removed/);
});

test('too few shares, wrong ones and a removed slot are one clear error each, and open nothing', async (t) => {
  const { place, shares, slotId } = await ground(t);
  const [a, b, c] = shares as [string, string, string];
  const other = await ground(t);
  const before = everyFile(place.dataDir);
  const cases: Array<[string[], number, RegExp]> = [
    [[a, b], 2, /3 shares are needed, and 2 were given\n$/],
    [[], 2, /no share was given\n$/],
    [[a, b, b], 2, /share 2 was given twice\n$/],
    [[a, other.shares[1]!, c], 2, /share 2 is of another recovery key than share 1\n$/],
    [[a, b, `${c.slice(0, -1)}${c.endsWith('0') ? '1' : '0'}`], 2, /share 3 has a typing error: its checksum does not match\n$/],
    [other.shares.slice(0, 3), 12, /open nothing here/],
  ];
  for (const verb of ['drill', 'open']) {
    for (const [given, exit, detail] of cases) {
      const ran = await cli(
        place,
        ['recovery', verb, '--data-dir', place.dataDir, '--master-key-file', join(place.directory, 'new.key')],
        given.join('\n'),
      );
      t.is(ran.exit, exit, ran.stderr);
      t.regex(ran.stderr, detail);
      t.is(ran.stdout, '');
    }
  }
  t.false(existsSync(join(place.directory, 'new.key')));
  t.deepEqual(everyFile(place.dataDir), before);
  const kms = await openAt(t, place);
  await kms.removeSlot(slotId);
  await kms.close();
  const ran = await cli(place, ['recovery', 'drill', ...on(place)], shares.slice(0, 3).join('\n'));
  t.is(ran.exit, 12, ran.stderr);
});

test('neither the key nor a share stands in any file', async (t) => {
  const { place, shares } = await ground(t);
  const parsed = shares.map((text, i) => parseShare(Buffer.from(text), String(i)));
  const key = Buffer.from(await joinShares(parsed));
  const files = everyFile(place.directory).map(([, text]) => text);
  t.true(files.length >= 4);
  for (const secret of [key, ...parsed.map(({ bytes }) => Buffer.from(bytes))]) {
    for (const form of ['latin1', 'hex', 'base64'] as const) t.false(files.some((text) => text.includes(secret.toString(form))));
  }
  for (const text of shares) t.false(files.some((file) => file.includes(text)));
});

test('shares that nobody took leave no slot', async (t) => {
  const place = newPlace(t);
  await (await openAt(t, place)).close();
  const ran = await cli(place, ['recovery', 'create', '--shares', '3', '--threshold', '2', ...on(place)], '', false);
  t.is(ran.exit, 1, ran.stderr);
  t.regex(ran.stderr, /the shares could not be printed, and the slot was removed again/);
  t.is((await (await openAt(t, place)).slots()).length, 1);
});

test('a daemon gets the slot while it serves, and shares are drilled beside it', async (t) => {
  const place = newPlace(t);
  const { client, socket } = await served(t, place);
  const created = await cli(place, ['recovery', 'create', '--shares', '3', '--threshold', '2', '--json', '--socket', socket]);
  t.is(created.exit, 0, created.stderr);
  const { shares, slot_id } = JSON.parse(created.stdout);
  t.like(
    (await client.slots()).find(({ slotId }) => slotId === slot_id),
    { kind: 'recovery', expiresAt: null },
  );
  const drilled = await cli(place, ['recovery', 'drill', ...on(place)], shares.slice(1).join('\n'));
  t.is(drilled.exit, 0, drilled.stderr);
  const opened = await cli(place, ['recovery', 'open', ...on(place)], shares.slice(1).join('\n'));
  t.is(opened.exit, 23, 'not while a daemon has the directory');
  t.regex(opened.stderr, /in use by another process/);
});

test('a split that makes no sense adds no slot', async (t) => {
  const place = newPlace(t);
  await (await openAt(t, place)).close();
  for (const [shares, threshold, detail] of [
    ['5', '1', /at least 2/],
    ['2', '3', /3 shares are more than the 2/],
    ['65', '3', /at most 64/],
    ['x', '3', /must be a whole number/],
  ] as const) {
    const ran = await cli(place, ['recovery', 'create', '--shares', shares, '--threshold', threshold, ...on(place)]);
    t.is(ran.exit, 2);
    t.regex(ran.stderr, detail);
  }
  t.is((await (await openAt(t, place)).slots()).length, 1);
});

test('the new master key must not lie in the data directory', async (t) => {
  const { place, shares } = await ground(t);
  const inside = join(place.dataDir, 'new.key');
  const ran = await cli(
    place,
    ['recovery', 'open', '--data-dir', place.dataDir, '--master-key-file', inside],
    shares.slice(0, 3).join('\n'),
  );
  t.is(ran.exit, 2);
  t.regex(ran.stderr, /is inside the data directory/);
  t.false(existsSync(inside));
  writeFileSync(join(place.directory, 'short.key'), 'abc', { mode: 0o600 });
  const short = await cli(
    place,
    ['recovery', 'open', '--data-dir', place.dataDir, '--master-key-file', join(place.directory, 'short.key')],
    shares.slice(0, 3).join('\n'),
  );
  t.is(short.exit, 2, short.stderr);
  t.is((await (await openAt(t, place)).slots()).length, 2);
});
