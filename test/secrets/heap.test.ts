import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { connectKms } from '../../dist/client/index.js';
import { openedStore } from './opened-store.js';
import { imported, type Place, Printed, place, saying, turnedOver } from './served.js';

/** Forms that a key takes in a JavaScript string. */
function formsOf(key: Buffer): Map<string, string> {
  const hex = key.toString('hex');
  const base64 = key.toString('base64');
  // A snapshot cuts a string at its first zero.
  const zero = key.indexOf(0);
  const raw = key.subarray(0, zero < 0 ? 12 : Math.min(zero, 12));
  const forms = new Map([
    ['hex, first half', hex.slice(0, 32)],
    ['hex, last half', hex.slice(32)],
    ['upper hex', hex.slice(0, 32).toUpperCase()],
    ['spaced hex', (hex.slice(0, 32).match(/../g) ?? []).join(' ')],
    ['base64, first half', base64.slice(0, 20)],
    ['base64, last half', base64.slice(20, 42)],
    ['base64url', key.toString('base64url').slice(0, 20)],
    ['numbers', [...key.subarray(0, 12)].join(',')],
  ]);
  if (raw.length >= 6) forms.set('latin1', raw.toString('latin1'));
  return forms;
}

/** Names of the keys, and their forms, that a snapshot holds, in its strings or anywhere as bytes. */
function keysIn(snapshot: string, keys: ReadonlyMap<string, Buffer>): string[] {
  const bytes = readFileSync(snapshot);
  const { strings } = JSON.parse(bytes.toString('utf8')) as { strings: string[] };
  const text = strings.join('\n');
  const found: string[] = [];
  for (const [name, key] of keys) {
    if (bytes.includes(key.subarray(0, 16)) || bytes.includes(key.subarray(16))) found.push(`${name}: bytes`);
    for (const [form, value] of formsOf(key)) if (text.includes(value)) found.push(`${name}: ${form}`);
  }
  return found;
}

interface Child {
  process: ChildProcess;
  printed: Printed;
  snapshots: [string, string];
  ended: Promise<unknown>;
}

function start(t: ExecutionContext, at: Place, kind: 'embedded' | 'daemon', planted: string[], raw: number[] = []): Child {
  const { directory, dataDir, masterKeyFile, socket } = at;
  const snapshots: [string, string] = [join(directory, 'open.heapsnapshot'), join(directory, 'closed.heapsnapshot')];
  const codes = planted.map((text) => [...text].map((character) => character.charCodeAt(0)));
  const job = { kind, dataDir, masterKeyFile, socket, snapshots, planted: codes, raw };
  const script = resolve('dist-test/secrets/snapshot-child.js');
  const args = ['--heap-snapshot-string-limit=1000000', script, JSON.stringify(job)];
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  t.teardown(() => child.kill());
  return { process: child, printed: new Printed(child), snapshots, ended: once(child, 'exit') };
}

/** Without a zero, so that no form is cut. */
function plantable(): Buffer {
  return randomBytes(32).map((byte) => byte || 1) as Buffer;
}

function check(t: ExecutionContext, at: Place, { printed, snapshots }: Child, planted: Buffer, dataKeys: number): void {
  t.regex(printed.text, /kept/, 'the process came to its end');
  const { keys, deks } = openedStore(at.dataDir, at.masterKeyFile);
  t.is(deks.size, dataKeys);
  for (const snapshot of snapshots) {
    t.deepEqual(keysIn(snapshot, new Map([...keys, ...deks])), [], snapshot);
    const seen = keysIn(snapshot, new Map([['planted', planted]]));
    for (const form of formsOf(planted).keys()) t.true(seen.includes(`planted: ${form}`), `planted as ${form}`);
  }
}

test.serial('a heap snapshot of a process that embeds the service holds no key', async (t) => {
  const at = place(t);
  const raw = plantable();
  const planted = plantable();
  const child = start(t, at, 'embedded', [...formsOf(planted).values()], turnedOver(raw));
  await child.ended;
  check(t, at, child, planted, 4);
  const { deks } = openedStore(at.dataDir, at.masterKeyFile);
  t.true(
    [...deks.values()].some((dek) => dek.equals(raw)),
    'the raw key is one of those looked for',
  );
});

test.serial('a heap snapshot of a daemon holds no key', async (t) => {
  const at = place(t);
  const [id] = imported(at, [randomBytes(32)]);
  const planted = plantable();
  const child = start(t, at, 'daemon', [...formsOf(planted).values()]);
  await saying(child.process, child.printed, /listening/);
  const kms = await connectKms(at.socket);
  for (let i = 0; i < 500; i++) await kms.decryptWithDek(id!, (await kms.encryptWithDek(id!, randomBytes(50))).ciphertext);
  const created = await kms.createDek();
  await kms.getWrapped(created.keyId);
  await kms.encrypt(randomBytes(10));
  await kms.seal();
  await kms.unseal();
  await kms.encryptWithDek(id!, randomBytes(400_000));
  await kms.decryptWithDek(id!, randomBytes(60)).catch(() => {});
  await kms.close();
  child.process.stdin?.write('now');
  await child.ended;
  check(t, at, child, planted, 3);
});
