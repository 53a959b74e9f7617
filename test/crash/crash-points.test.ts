import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { EmbeddedKms } from '../../dist/create.js';
import { KmsError } from '../../dist/errors.js';
import { copyDirectory } from '../store/data-dir.js';
import { Child } from './child.js';
import { IS_FULL, points } from './extent.js';
import { embeddedOn, type Ground, keyIdsOn, leftoversOn, newGround, recordFile, removeGround, verifyAll } from './ground.js';
import { newSeed, randomFrom } from './random.js';

const MESSAGE = Buffer.from('before the crash');
const seed = newSeed();
const random = randomFrom(seed);
/** A sample is of these first points, which every operation has; a torn write is left to the full run. */
const SAMPLED = 5;
const CUTS = IS_FULL ? ['before', 'torn'] : ['before'];
const SCRIPT = resolve('dist-test/crash/crash-point-child.js');

interface Base {
  ground: Ground;
  keyId: string;
  ciphertext: Uint8Array;
}

interface Crash {
  kms: EmbeddedKms;
  ground: Ground;
  base: Base;
  /** The words of what the process had acknowledged last, undefined for nothing. */
  said: string[] | undefined;
}

/** A store with one key, taken through `states`. */
async function baseOf(t: ExecutionContext, states: Array<'disabled'> = []): Promise<Base> {
  const ground = newGround();
  t.teardown(() => removeGround(ground));
  const kms = await embeddedOn(ground);
  const { keyId } = await kms.createDekForThread('crash/base');
  const { ciphertext } = await kms.encryptWithDek(keyId, MESSAGE);
  for (const state of states) await kms.setKeyState(keyId, state);
  await kms.close();
  return { ground, keyId, ciphertext };
}

interface Killed {
  ground: Ground;
  said: string[] | undefined;
  /** The operation came to its end: there was no such point any more. */
  ended: boolean;
}

async function killedAt(t: ExecutionContext, operation: string, base: Base, point: number, cut: string): Promise<Killed> {
  const ground = newGround();
  t.teardown(() => removeGround(ground));
  copyDirectory(base.ground.directory, ground.directory);
  const child = new Child([SCRIPT, operation, ground.dataDir, ground.keyFile, String(point), cut, base.keyId]);
  const { code, signal } = await child.ended;
  t.true(signal === 'SIGKILL' || code === 0, child.errors);
  return { ground, said: child.lines.at(-1)?.split(' '), ended: code === 0 };
}

/** Kills a process at every point of `operation` on a copy of `base`, and has `check` look at the store opened afterwards. */
async function atEveryPoint(
  t: ExecutionContext,
  operation: string,
  base: Base,
  check: (crash: Crash) => Promise<void>,
): Promise<void> {
  for (const cut of CUTS) {
    let unacknowledged = 0;
    for (const point of points(SAMPLED, random)) {
      const { ground, said, ended } = await killedAt(t, operation, base, point, cut);
      if (said === undefined) unacknowledged += 1;
      const kms = await embeddedOn(ground);
      try {
        t.deepEqual(leftoversOn(ground), []);
        await verifyAll(kms);
        t.is((await kms.health()).status, 'ok');
        await check({ kms, ground, base, said });
      } catch (error) {
        throw new Error(`${operation}, killed at change ${point} (${cut}, seed ${seed})`, { cause: error });
      } finally {
        await kms.close();
      }
      if (!ended) continue;
      t.log(`${cut}: ${point} points, ${unacknowledged} kills before the acknowledgement`);
      t.true(point >= (cut === 'torn' ? 1 : 5), 'the kills met the operation half-done');
      break;
    }
  }
}

async function serves(t: ExecutionContext, kms: EmbeddedKms, keyId: string): Promise<void> {
  const { ciphertext } = await kms.encryptWithDek(keyId, MESSAGE);
  t.deepEqual(Buffer.from(await kms.decryptWithDek(keyId, ciphertext)), MESSAGE);
}

test('a kill at any point of making a store leaves none or a whole one, and the next start goes on', async (t) => {
  const empty = newGround();
  t.teardown(() => removeGround(empty));
  const nothing = { ground: empty, keyId: '', ciphertext: new Uint8Array() };
  for (const cut of CUTS) {
    let without = 0;
    for (const point of points(SAMPLED, random)) {
      const { ground, said, ended } = await killedAt(t, 'init', nothing, point, cut);
      const path = join(ground.dataDir, 'keyring.json');
      const storeIdThere = () => JSON.parse(readFileSync(path, 'utf8')).store_id as string;
      const storeId = existsSync(path) ? storeIdThere() : undefined;
      if (storeId === undefined) without += 1;
      if (said !== undefined) t.truthy(storeId, 'what was acknowledged is there');
      const kms = await embeddedOn(ground);
      t.deepEqual(leftoversOn(ground), []);
      await serves(t, kms, (await kms.createDek()).keyId);
      await kms.close();
      if (storeId !== undefined) t.is(storeIdThere(), storeId, 'a store that was made stays the store');
      if (!ended) continue;
      t.log(`${cut}: ${point} points, ${without} of them before there was a keyring`);
      t.true(without >= (cut === 'torn' ? 1 : 4));
      break;
    }
  }
});

test('a kill at any point of a create leaves nothing or a whole record, and all that was acknowledged', async (t) => {
  await atEveryPoint(t, 'create', await baseOf(t), async ({ kms, ground, base, said }) => {
    t.true(keyIdsOn(ground).length <= 2);
    for (const keyId of keyIdsOn(ground)) await serves(t, kms, keyId);
    if (said !== undefined) await serves(t, kms, said[1]!);
    t.deepEqual(Buffer.from(await kms.decryptWithDek(base.keyId, base.ciphertext)), MESSAGE);
  });
});

test('a kill at any point of the first default key loses nothing that was sealed with it', async (t) => {
  await atEveryPoint(t, 'default', await baseOf(t), async ({ kms, said }) => {
    if (said !== undefined) t.is(Buffer.from(await kms.decrypt(Buffer.from(said[1]!, 'hex'))).toString(), 'default');
    t.deepEqual(Buffer.from(await kms.decrypt(await kms.encrypt(MESSAGE))), MESSAGE);
  });
});

const CHANGES = [
  { operation: 'disable', before: 'active', after: 'disabled', states: [] },
  { operation: 'enable', before: 'disabled', after: 'active', states: ['disabled'] },
  { operation: 'destroy', before: 'disabled', after: 'destroyed', states: ['disabled'] },
] as Array<{ operation: string; before: string; after: string; states: Array<'disabled'> }>;

for (const { operation, before, after, states } of CHANGES) {
  test(`a kill at any point of ${operation} leaves the key ${before} or ${after}, and ${after} once acknowledged`, async (t) => {
    const seen = new Set<string>();
    await atEveryPoint(t, operation, await baseOf(t, states), async ({ kms, ground, base, said }) => {
      const { keyId, ciphertext } = base;
      const { state } = await kms.describeKey(keyId);
      seen.add(state);
      t.true(state === after || (state === before && said === undefined), `${state}, acknowledged: ${said}`);
      t.is(recordFile(ground, keyId).wrapped === '', state === 'destroyed');
      if (state === 'active') t.deepEqual(Buffer.from(await kms.decryptWithDek(keyId, ciphertext)), MESSAGE);
      else {
        const refused = await t.throwsAsync(kms.encryptWithDek(keyId, MESSAGE), { instanceOf: KmsError });
        t.is(refused?.code, state === 'disabled' ? 'KEY_DISABLED' : 'KEY_DESTROYED');
      }
    });
    if (IS_FULL) t.deepEqual([...seen].sort(), [before, after].sort(), 'both outcomes were met');
  });
}

for (const operation of ['useSync', 'useAsync']) {
  test(`a kill at any point of reserving uses (${operation}) counts all that were done`, async (t) => {
    await atEveryPoint(t, operation, await baseOf(t), async ({ kms, base, said }) => {
      // One use was done when the base was made.
      t.true((await kms.describeKey(base.keyId)).usesReserved >= Number(said?.[1] ?? 0) + 1);
      await serves(t, kms, base.keyId);
    });
  });
}

test('a kill at any point of a clean stop gives back no use that was done, and all others once it has ended', async (t) => {
  await atEveryPoint(t, 'stop', await baseOf(t), async ({ kms, base, said }) => {
    const { usesReserved } = await kms.describeKey(base.keyId);
    t.true(said === undefined ? usesReserved >= 701 : usesReserved === 701, `${usesReserved}, acknowledged: ${said}`);
    await serves(t, kms, base.keyId);
  });
});
