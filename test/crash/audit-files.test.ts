import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { nodeFileSystem } from '../../dist/store/file-system.js';
import { copyDirectory } from '../store/data-dir.js';
import { checkLines, logsIn } from './audit-lines.js';
import { embeddedThrough } from './faulty-provider.js';
import { newGround, removeGround } from './ground.js';
import { Ledger } from './ledger.js';
import { Witness } from './witness.js';

const FILE_BYTES = 2_000;

test('a start goes on with a log whose last file a killed process had just begun: no line of it names a signing key yet', async (t) => {
  const ground = newGround();
  const killed = newGround();
  t.teardown(() => removeGround(ground));
  t.teardown(() => removeGround(killed));
  const ledger = new Ledger();
  const kms = await embeddedThrough(nodeFileSystem, ground, { maxFileBytes: FILE_BYTES });
  const log = () => readFileSync(join(ground.dataDir, 'kms-audit.log'), 'utf8');
  const isJustBegun = () => logsIn(ground.dataDir).files.length > 1 && log() !== '' && !/"signing_key"/.test(log());
  const witness = new Witness(kms, ledger);
  for (let made = 0; made < 20 && !isJustBegun(); made += 1) await witness.create();
  t.true(isJustBegun());
  copyDirectory(ground.dataDir, killed.dataDir);
  await kms.close();
  const again = await embeddedThrough(nodeFileSystem, { ...killed, keyFile: ground.keyFile }, { maxFileBytes: FILE_BYTES });
  await new Witness(again, ledger).create();
  await again.close();
  t.notThrows(() => checkLines(logsIn(killed.dataDir), ledger));
});
