import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { createEmbeddedKms } from '../../dist/create.js';
import { KmsError } from '../../dist/errors.js';
import { openKms } from '../../dist/open.js';
import { nodeFileSystem } from '../../dist/store/file-system.js';
import { storeKindFor, storeKindIn } from '../../dist/store/kind.js';
import { mark } from '../../dist/store/marker.js';
import { newPlace, openAt } from '../provider/subjects.js';
import { newDataDir } from './data-dir.js';

test('a data directory is opened as what it holds, and files are made where it holds nothing', async (t) => {
  const dataDir = newDataDir(t);
  t.is(storeKindIn(dataDir), undefined);
  t.is(storeKindIn(join(dataDir, 'none')), undefined);
  t.is(storeKindFor(dataDir, undefined), 'files');
  t.is(storeKindFor(dataDir, 'lmdb'), 'lmdb');
  for (const kind of ['files', 'lmdb'] as const) {
    const place = newPlace(t);
    const made = await openAt(t, place, { store: kind });
    const { keyId } = await made.createDek();
    await made.close();
    t.is(storeKindIn(place.dataDir), kind);
    const again = await openAt(t, place);
    t.is((await again.describeKey(keyId)).keyId, keyId);
    t.is(existsSync(join(place.dataDir, 'keys.lmdb')), kind === 'lmdb');
    t.is(existsSync(join(place.dataDir, 'kms-deks')), kind === 'files');
  }
});

test('a start that made directories and no key yet is followed by one of either kind', async (t) => {
  const dataDir = newDataDir(t);
  mkdirSync(join(dataDir, 'kms-deks'), 0o700);
  t.is(storeKindFor(dataDir, 'lmdb'), 'lmdb');
  writeFileSync(join(dataDir, 'keys.lmdb'), '');
  t.is(storeKindIn(dataDir), 'lmdb');
});

for (const [state, ruin] of [
  ['gone', (path: string) => rmSync(path)],
  ['empty', (path: string) => writeFileSync(path, '')],
] as const) {
  test(`a store of which keys.lmdb is ${state} is not taken for one without keys`, async (t) => {
    for (const isMarked of [false, true]) {
      const place = newPlace(t);
      await (await openAt(t, place, { store: 'lmdb' })).close();
      if (isMarked) {
        await mark(nodeFileSystem, place.dataDir, 'lmdb');
        rmSync(join(place.dataDir, 'keys.lmdb-lock'));
      }
      ruin(join(place.dataDir, 'keys.lmdb'));
      for (const store of [{}, { store: 'lmdb' }, { store: 'files' }] as const) {
        const error = await t.throwsAsync(openAt(t, place, store), { instanceOf: KmsError, code: 'STORE_UNAVAILABLE' });
        t.regex(error?.message ?? '', new RegExp(`keys\\.lmdb is ${state}; put it back`));
      }
      t.false(existsSync(join(place.dataDir, 'kms-deks')));
    }
  });
}

for (const [held, asked] of [
  ['files', 'lmdb'],
  ['lmdb', 'files'],
] as const) {
  test(`a data directory of ${held} is refused where ${asked} is asked for, by one line, and stays as it is`, async (t) => {
    const place = newPlace(t);
    await (await openAt(t, place, { store: held })).close();
    const before = readdirSync(place.dataDir).sort();
    const error = await t.throwsAsync(openAt(t, place, { store: asked }), { instanceOf: KmsError, code: 'CONFLICT' });
    t.true(error?.message.includes(`holds a store of kind ${held}, not ${asked}`), error?.message);
    t.true(error?.message.includes(`store migrate --to ${asked}`));
    t.false(error?.message.includes('\n'));
    t.deepEqual(readdirSync(place.dataDir).sort(), before);
    await t.notThrowsAsync(openAt(t, place, { store: held }));
  });
}

test('of two stores in one directory the one that the marker names is live, and without it none is', async (t) => {
  const place = newPlace(t);
  await (await openAt(t, place, { store: 'lmdb' })).close();
  mkdirSync(join(place.dataDir, 'kms-deks'), 0o700);
  writeFileSync(join(place.dataDir, 'kms-deks', 'k_1.json'), '{}');
  const error = t.throws(() => storeKindIn(place.dataDir), { instanceOf: KmsError, code: 'STORE_UNAVAILABLE' });
  t.regex(error?.message ?? '', /holds keys in keys\.lmdb and in kms-deks, and no store\.json says which are the live ones/);
  await t.throwsAsync(openAt(t, place), { code: 'STORE_UNAVAILABLE' });
  for (const kind of ['files', 'lmdb'] as const) {
    await mark(nodeFileSystem, place.dataDir, kind);
    t.is(storeKindIn(place.dataDir), kind);
  }
  for (const text of ['', '{}', '{"format":1,"store":"lmdb"}', '{"format":1,"store":"other"}\n']) {
    writeFileSync(join(place.dataDir, 'store.json'), text);
    t.throws(() => storeKindIn(place.dataDir), { code: 'STORE_UNAVAILABLE' }, text);
  }
  rmSync(join(place.dataDir, 'store.json'));
  mkdirSync(join(place.dataDir, 'store.json'));
  t.throws(() => storeKindIn(place.dataDir), { code: 'STORE_UNAVAILABLE' });
});

test('the kind of a new store is an option, or one of the environment', async (t) => {
  const place = newPlace(t);
  const env = {
    PROGRESSDB_KMS_DATA_DIR: place.dataDir,
    PROGRESSDB_KMS_MASTER_KEY_FILE: place.masterKeyFile,
    PROGRESSDB_KMS_STORE: 'lmdb',
  };
  await (await openKms(env)).close();
  t.is(storeKindIn(place.dataDir), 'lmdb');
  await (await openKms({ ...env, PROGRESSDB_KMS_STORE: '' })).close();
  for (const store of ['x', 'LMDB', 7]) {
    const options = { dataDir: place.dataDir, masterKeyFile: place.masterKeyFile, store: store as 'lmdb' };
    await t.throwsAsync(createEmbeddedKms(options), { code: 'INVALID_ARGUMENT', message: /store must be files or lmdb/ });
  }
});
