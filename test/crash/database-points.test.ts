import { readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { DatabaseKms, EmbeddedKms } from '../../dist/create.js';
import { copyDirectory } from '../store/data-dir.js';
import { Child } from './child.js';
import { IS_FULL, points } from './extent.js';
import { embeddedOn, type Ground, newGround, removeGround, verifyAll } from './ground.js';
import { newSeed, randomFrom } from './random.js';

const MESSAGE = Buffer.from('before the crash');
const seed = newSeed();
const random = randomFrom(seed);
/** As many as every operation has. */
const SAMPLED = 5;
const CUTS = IS_FULL ? ['before', 'torn'] : ['before'];
const SCRIPT = resolve('dist-test/crash/crash-point-child.js');

interface Base {
  ground: Ground;
  secret: string;
  keyId: string;
  ciphertext: Uint8Array;
}

interface Crash {
  kms: EmbeddedKms;
  base: Base;
  /** The words of what the process had acknowledged last, undefined for nothing. */
  said: string[] | undefined;
}

async function baseOf(t: ExecutionContext): Promise<Base> {
  const ground = newGround();
  t.teardown(() => removeGround(ground));
  const kms = await embeddedOn(ground);
  const secret = Buffer.from(await kms.newDatabase()).toString('latin1');
  const database = await opened(kms, secret);
  const { keyId } = await database.createDekForThread('crash/base');
  const { ciphertext } = await database.encryptWithDek(keyId, MESSAGE);
  await kms.close();
  return { ground, secret, keyId, ciphertext };
}

function opened(kms: EmbeddedKms, secret: string): Promise<DatabaseKms> {
  return kms.openDatabase(Buffer.from(secret, 'latin1'));
}

function leftoversIn({ dataDir }: Ground): string[] {
  const root = join(dataDir, 'kms-databases');
  return readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.tmp'));
}

/** Kills a process at every point of `operation` on a copy of `base`, and has `check` look at the store opened afterwards. */
async function atEveryPoint(t: ExecutionContext, operation: string, check: (crash: Crash) => Promise<void>): Promise<void> {
  const base = await baseOf(t);
  for (const cut of CUTS) {
    for (const point of points(SAMPLED, random)) {
      const ground = newGround();
      t.teardown(() => removeGround(ground));
      copyDirectory(base.ground.directory, ground.directory);
      const child = new Child([SCRIPT, operation, ground.dataDir, ground.keyFile, String(point), cut, base.secret]);
      const { code, signal } = await child.ended;
      t.true(signal === 'SIGKILL' || code === 0, child.errors);
      const said = child.lines.at(-1)?.split(' ');
      const kms = await embeddedOn(ground);
      try {
        while ((await kms.rotationStatus()).state === 'running') await new Promise((done) => setTimeout(done, 5));
        t.is((await kms.rotationStatus()).state, 'idle');
        await verifyAll(kms);
        for await (const one of kms.databases()) {
          t.is(one.fault, null);
          // Its directory is looked into, and what the crash left of a write goes.
          await kms.snapshot().documents().next();
        }
        await check({ kms, base, said });
        t.deepEqual(leftoversIn(ground), []);
      } catch (error) {
        throw new Error(`${operation}, killed at change ${point} (${cut}, seed ${seed})`, { cause: error });
      } finally {
        await kms.close();
      }
      if (code === 0) break;
    }
  }
}

async function serves(t: ExecutionContext, { kms, base }: Crash): Promise<DatabaseKms> {
  const database = await opened(kms, base.secret);
  t.deepEqual(Buffer.from(await database.decryptWithDek(base.keyId, base.ciphertext)), MESSAGE);
  return database;
}

test('a kill at any point of making a database leaves none or a whole one, and the one that was told', async (t) => {
  await atEveryPoint(t, 'new-database', async (crash) => {
    const { kms, said } = crash;
    await serves(t, crash);
    const made = [];
    for await (const one of kms.databases()) made.push(one);
    t.true(made.length <= 2);
    if (said === undefined) return;
    t.is(made.length, 2);
    const database = await opened(kms, said[1]!);
    await t.notThrowsAsync(database.createDek());
  });
});

test('a kill at any point of a create in a database leaves nothing or a whole record, and all that was acknowledged', async (t) => {
  await atEveryPoint(t, 'database-create', async (crash) => {
    const database = await serves(t, crash);
    const { keys } = await database.listKeys();
    t.true(keys.length <= 2);
    if (crash.said !== undefined) t.true(keys.some(({ keyId }) => keyId === crash.said![1]));
    for (const { keyId } of keys) await t.notThrowsAsync(database.encryptWithDek(keyId, MESSAGE));
  });
});

test('a kill at any point of a change in a database leaves the key as it was or as it is to be', async (t) => {
  await atEveryPoint(t, 'database-disable', async ({ kms, base, said }) => {
    const database = await opened(kms, base.secret);
    const { state } = await database.describeKey(base.keyId);
    t.true(state === 'disabled' || (state === 'active' && said === undefined), state);
  });
});

test('a kill at any point of the first default key of a database loses nothing that was sealed with it', async (t) => {
  await atEveryPoint(t, 'database-default', async (crash) => {
    const database = await serves(t, crash);
    if (crash.said !== undefined)
      t.is(Buffer.from(await database.decrypt(Buffer.from(crash.said[1]!, 'hex'))).toString(), 'default');
    t.deepEqual(Buffer.from(await database.decrypt(await database.encrypt(MESSAGE))), MESSAGE);
  });
});

test('a kill at any point of a drop leaves the whole database or none of it', async (t) => {
  await atEveryPoint(t, 'database-drop', async (crash) => {
    const ids = [];
    for await (const { databaseId } of crash.kms.databases()) ids.push(databaseId);
    if (crash.said !== undefined) t.deepEqual(ids, []);
    if (ids.length === 1) await serves(t, crash);
    else await t.throwsAsync(opened(crash.kms, crash.base.secret), { message: /opens nothing/ });
  });
});

test('a kill at any point of a rotation leaves every database open to its secret, and the next start ends it', async (t) => {
  await atEveryPoint(t, 'database-rotate', async (crash) => {
    await serves(t, crash);
    const { kekVersion } = await crash.kms.rotationStatus();
    t.true(kekVersion === '2' || (kekVersion === '1' && crash.said === undefined));
  });
});
