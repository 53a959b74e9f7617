import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { checkBackup } from '../backup/checked.js';
import { backupOf } from '../backup/ground.js';
import { copyDirectory } from '../store/data-dir.js';
import { Child } from './child.js';
import { IS_FULL, points as pointsOf } from './extent.js';
import { embeddedOn, type Ground, newGround, removeGround, verifyAll } from './ground.js';
import { newSeed, randomFrom } from './random.js';

const MESSAGE = Buffer.from('before the crash');
const random = randomFrom(newSeed());
/** A sample is of these first points, which both operations have. */
const SAMPLED = 5;
const SCRIPT = resolve('dist-test/crash/restore-point-child.js');

interface Base {
  ground: Ground;
  backup: string;
  old: { keyId: string; ciphertext: Uint8Array };
  /** Made after the backup. */
  later: string;
}

async function baseOf(t: ExecutionContext): Promise<Base> {
  const ground = newGround();
  t.teardown(() => removeGround(ground));
  const kms = await embeddedOn(ground);
  const { keyId } = await kms.createDek();
  const { ciphertext } = await kms.encryptWithDek(keyId, MESSAGE);
  writeFileSync(join(ground.dataDir, 'kms-audit-0000000000000001.log'), '{"event":{"seq":1}}\n', { mode: 0o600 });
  const backup = join(ground.directory, 'base.backup');
  await backupOf(kms, backup);
  const later = (await kms.createDek()).keyId;
  await kms.close();
  return { ground, backup, old: { keyId, ciphertext }, later };
}

interface Crash {
  ground: Ground;
  isAcknowledged: boolean;
}

/** Kills a process at every point, or at one of the first, of `operation` on a copy of the base. */
async function atEveryPoint(
  t: ExecutionContext,
  operation: string,
  base: Base,
  check: (crash: Crash) => Promise<void>,
): Promise<number> {
  let points = 0;
  for (const cut of IS_FULL ? ['before', 'torn'] : ['before']) {
    for (const point of pointsOf(SAMPLED, random)) {
      const ground = newGround();
      try {
        copyDirectory(base.ground.directory, ground.directory);
        const path = operation === 'backup' ? join(ground.directory, 'new.backup') : join(ground.directory, 'base.backup');
        const child = new Child([SCRIPT, operation, ground.dataDir, ground.keyFile, path, String(point), cut]);
        const { code, signal } = await child.ended;
        t.true(signal === 'SIGKILL' || code === 0, child.errors);
        await check({ ground, isAcknowledged: child.lines.includes('done') });
        if (code === 0) break;
        points += 1;
      } catch (error) {
        throw new Error(`${operation}, killed at change ${point} (${cut})`, { cause: error });
      } finally {
        removeGround(ground);
      }
    }
  }
  return points;
}

test('a kill at any point of a backup leaves no file of that name or a whole one, and the next backup cleans up', async (t) => {
  const base = await baseOf(t);
  const seen = new Set<boolean>();
  let leftovers = 0;
  const points = await atEveryPoint(t, 'backup', base, async ({ ground, isAcknowledged }) => {
    const path = join(ground.directory, 'new.backup');
    const isThere = existsSync(path);
    seen.add(isThere);
    if (isAcknowledged) t.true(isThere);
    const place = { ...ground, masterKeyFile: ground.keyFile };
    if (isThere) t.deepEqual(await checkBackup(path, place), []);
    leftovers += temporariesIn(ground).length;
    const kms = await embeddedOn(ground);
    await verifyAll(kms);
    await backupOf(kms, join(ground.directory, 'next.backup'));
    await kms.close();
    t.deepEqual(temporariesIn(ground), []);
  });
  if (!IS_FULL) return t.is(points, 1);
  t.deepEqual([...seen].sort(), [false, true], 'both outcomes were met');
  return t.true(points >= 5 && leftovers > 0, 'the kills met it half-done');
});

function temporariesIn({ directory }: Ground): string[] {
  return readdirSync(directory).filter((name) => name.endsWith('.tmp'));
}

const restoring = ({ directory }: Ground) => readdirSync(directory).filter((name) => name.startsWith('.data.restore-'));

test('a kill at any point of a restore leaves the old directory or the new one, or a gap that the next one closes', async (t) => {
  const base = await baseOf(t);
  const seen = new Set<string>();
  const points = await atEveryPoint(t, 'restore', base, async ({ ground, isAcknowledged }) => {
    const isThere = existsSync(ground.dataDir);
    if (!isThere) {
      await t.throwsAsync(embeddedOn(ground), { message: /was interrupted: run it again/ });
      t.false(existsSync(ground.dataDir), 'no empty store was made in the gap');
    }
    const state = isThere ? (existsSync(join(ground.dataDir, 'kms-deks', `${base.later}.json`)) ? 'old' : 'new') : 'gap';
    seen.add(state);
    if (isAcknowledged) t.is(state, 'new');
    if (isThere) await opens(t, ground, base);
    // Whatever was left, another restore goes through and cleans up.
    const child = new Child([
      SCRIPT,
      'restore',
      ground.dataDir,
      ground.keyFile,
      join(ground.directory, 'base.backup'),
      '1000000',
      'before',
    ]);
    t.is((await child.ended).code, 0, child.errors);
    t.deepEqual(restoring(ground), []);
    t.false(existsSync(join(ground.dataDir, 'kms-deks', `${base.later}.json`)));
    t.true(keptIn(ground, base.later), 'what was there before is kept aside');
    await opens(t, ground, base);
  });
  if (!IS_FULL) return t.is(points, 1);
  t.deepEqual([...seen].sort(), ['gap', 'new', 'old'], 'every outcome was met');
  return t.true(points > 20);
});

async function opens(t: ExecutionContext, ground: Ground, { old }: Base): Promise<void> {
  const kms = await embeddedOn(ground);
  await verifyAll(kms);
  t.deepEqual(Buffer.from(await kms.decryptWithDek(old.keyId, old.ciphertext)), MESSAGE);
  await kms.close();
  t.is(readFileSync(join(ground.dataDir, 'kms-audit-0000000000000001.log'), 'utf8'), '{"event":{"seq":1}}\n');
  t.is(statSync(ground.dataDir).mode & 0o777, 0o700);
}

function keptIn({ directory }: Ground, keyId: string): boolean {
  const asides = readdirSync(directory).filter((name) => name.startsWith('data.before-restore-'));
  return asides.some((name) => existsSync(join(directory, name, 'kms-deks', `${keyId}.json`)));
}
