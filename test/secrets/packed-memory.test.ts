import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { resolve } from 'node:path';
import test from 'ava';
import { needlesOfAll } from './needles.js';
import { openedStore } from './opened-store.js';
import { describe, Scanner, scanningHindrance, skipped } from './scanner.js';
import { imported, Printed, place, saying } from './served.js';

test('calls on packed records leave no key outside the arena', async (t) => {
  if (skipped(t, scanningHindrance())) return;
  const at = place(t);
  const scanner = Scanner.build();
  t.teardown(() => scanner.remove());
  imported(at, [randomBytes(32), randomBytes(32)]);
  const { keys, deks } = openedStore(at.dataDir, at.masterKeyFile);
  t.deepEqual([keys.has('kek'), keys.has('record-mac'), deks.size], [true, true, 2]);
  const args = [resolve('dist-test/secrets/packed-child.js'), at.dataDir, at.masterKeyFile];
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  t.teardown(() => child.kill());
  await saying(child, new Printed(child), /done 1000/);
  const marker = { name: 'marker', bytes: Buffer.from(at.marker, 'latin1') };
  const scan = await scanner.scan(child.pid!, [...needlesOfAll(keys), ...needlesOfAll(deks), marker]);
  t.is(scan.arenas.length, 1);
  t.true(
    scan.hits.some(({ needle }) => needle === 'marker'),
    'the scan sees what the process surely holds',
  );
  const secrets = scan.hits.filter(({ needle }) => needle !== 'marker');
  t.deepEqual(secrets, [], describe(secrets));
});
