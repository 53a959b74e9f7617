import { readdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { openLmdbStore } from '../../dist/store/lmdb.js';
import { Child } from '../crash/child.js';
import { newSeed, randomFrom } from '../crash/random.js';
import { newDataDir } from './data-dir.js';
import { faultsOf, VERSIONS, write } from './lmdb-load.js';

const ROUNDS = 8;

/** The last version of each key that was told, by the lines of a load. */
function toldBy(lines: readonly string[], told: Map<string, number>): Map<string, number> {
  for (const line of lines) {
    const [, keyId, version] = /^made (\S+) (\d+)$/.exec(line) ?? [];
    if (keyId !== undefined) told.set(keyId, Number(version));
  }
  return told;
}

test('a process that is killed while it makes, replaces and moves keys loses nothing that it told, and tears nothing', async (t) => {
  const dataDir = newDataDir(t);
  const seed = newSeed();
  t.log(`TEST_SEED=${seed}`);
  const random = randomFrom(seed);
  const told = new Map<string, number>();
  for (let round = 0; round < ROUNDS; round += 1) {
    const child = new Child([resolve('dist-test/store/lmdb-child.js'), 'load', dataDir, `r${round}`, 'Infinity']);
    // Every other life goes on until a key has moved, however slow that is: kills before any move, and among them.
    const isAwaited = (line: string) => round % 2 === 0 || line.endsWith(` ${VERSIONS}`);
    const begun = new Promise<void>((found) => {
      child.onLine = (line) => {
        if (isAwaited(line)) found();
      };
    });
    await Promise.race([begun, child.ended]);
    await delay(random() * 200);
    await child.kill();
    t.is(child.errors, '', `round ${round}`);
    const before = told.size;
    toldBy(child.lines, told);
    t.true(told.size > before, `round ${round}`);
    const store = await openLmdbStore({ dataDir });
    try {
      t.deepEqual(await faultsOf(store, told), [], `round ${round}`);
      // What came to be without being told counts from here on.
      for (const [keyId, version] of told) told.set(keyId, (await store.readRecord(keyId))?.version ?? version);
    } finally {
      await store.close();
    }
    t.deepEqual(readdirSync(dataDir).sort(), ['keys.lmdb', 'keys.lmdb-lock'], `round ${round}`);
  }
  t.log(`${told.size} keys`);
  t.true([...told.values()].includes(VERSIONS));
});

test('a fault that a kill could leave would be found', async (t) => {
  const dataDir = newDataDir(t);
  const store = await openLmdbStore({ dataDir });
  try {
    for (let version = 1; version <= VERSIONS; version += 1) await write(store, 'k_1', version);
    await write(store, 'k_2', 1);
    const told = new Map([
      ['k_1', VERSIONS],
      ['k_2', 1],
    ]);
    t.deepEqual(await faultsOf(store, told), []);
    t.regex((await faultsOf(store, new Map([...told, ['k_2', 2]]))).join(), /k_2: 2 told, 1 found/);
    t.regex((await faultsOf(store, new Map([...told, ['k_3', 1]]))).join(), /k_3: 1 told, 0 found/);
    t.regex((await faultsOf(store, new Map([...told, ['k_1', 2]]))).join(), /k_1: 2 told, 4 found/);
    await store.backups.forget('k_1');
    t.regex((await faultsOf(store, told)).join(), /k_1: version 4, and a backup of undefined/);
  } finally {
    await store.close();
  }
});
