import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { createEmbeddedKms } from '../../dist/create.js';
import { newPlace, openAt } from './subjects.js';

test('a data directory of the Go daemon is refused, and no empty store is put beside its keys', async (t) => {
  const place = newPlace(t);
  mkdirSync(join(place.dataDir, 'kms.db'), { recursive: true, mode: 0o700 });
  const { dataDir, masterKeyFile } = place;
  await t.throwsAsync(createEmbeddedKms({ dataDir, masterKeyFile }), {
    message: /^not supported: .* holds the key database of the Go daemon/,
  });
  t.false(existsSync(join(dataDir, 'keyring.json')));
});

test('a store that has its keyring opens whatever lies beside it', async (t) => {
  const place = newPlace(t);
  await (await openAt(t, place)).close();
  mkdirSync(join(place.dataDir, 'kms.db'), { mode: 0o700 });
  await t.notThrowsAsync(openAt(t, place));
});
