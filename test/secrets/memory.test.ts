import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import test, { type ExecutionContext } from 'ava';
import { connectKms, type KmsClient } from '../../dist/client/index.js';
import { type Needle, needlesOf, needlesOfAll } from './needles.js';
import { openedStore } from './opened-store.js';
import { describe, found, type Scan, Scanner, scanningHindrance, secretOf, skipped } from './scanner.js';
import { imported, type Place, Printed, place, saying, served, turnedOver } from './served.js';

const hindrance = scanningHindrance();
const OPERATIONS = 10_000;
const LARGE = 600_000;
/** How often the wipe of an idle key is looked for before it is missed: many times its idle time. */
const MOST_LOOKS = 120;

let scanner: Scanner;
test.before(() => {
  if (hindrance === undefined) scanner = Scanner.build();
});
test.after.always(() => scanner?.remove());

function markerNeedles({ marker }: Place): Needle[] {
  return [{ name: 'marker', bytes: Buffer.from(marker, 'latin1') }];
}

/** Only these secrets may be found. The scan must have seen the marker on a heap, and left out one arena. */
function holds(t: ExecutionContext, scan: Scan, ...expected: string[]): void {
  const marked = scan.hits.filter(({ needle, mapping }) => needle === 'marker' && !mapping.includes('[stack]'));
  t.true(marked.length > 0, 'the scan sees what the process surely holds');
  t.is(scan.arenas.length, 1, 'one key arena is left out');
  // Pages of the kernel, which it shows to no other process.
  t.deepEqual(
    scan.unread.filter((mapping) => !/\[(vvar|vvar_vclock|vsyscall)\]$/.test(mapping)),
    [],
  );
  const secrets = scan.hits.filter(({ needle }) => needle !== 'marker');
  const unexpected = secrets.filter((hit) => !expected.includes(secretOf(hit)));
  if (unexpected.length > 0) t.log(describe(unexpected));
  t.deepEqual(found(secrets), [...expected].sort());
}

async function client(t: ExecutionContext, { socket }: Place): Promise<KmsClient> {
  const kms = await connectKms(socket);
  t.teardown(() => kms.close());
  return kms;
}

/** Everything a daemon does with keys, about ten thousand times. */
async function busy(kms: KmsClient, keyIds: string[]): Promise<void> {
  const plaintext = randomBytes(200);
  const aad = randomBytes(20);
  const work = async (count: number) => {
    for (let i = 0; i < count; i += 2) {
      const keyId = keyIds[i % keyIds.length]!;
      await kms.decryptWithDek(keyId, (await kms.encryptWithDek(keyId, plaintext, aad)).ciphertext, aad);
    }
  };
  await Promise.all(Array.from({ length: 10 }, () => work(OPERATIONS / 20)));
  await kms.seal();
  await kms.unseal();
  await Promise.all(Array.from({ length: 10 }, () => work(OPERATIONS / 20)));
  for (const keyId of keyIds) {
    await kms.getWrapped(keyId);
    await kms.encryptMany(keyId, [plaintext, plaintext], aad);
    const { ciphertext } = await kms.encryptWithDek(keyId, randomBytes(LARGE));
    await kms.decryptWithDek(keyId, ciphertext);
  }
  await kms.decrypt(await kms.encrypt(plaintext));
}

async function hot(kms: KmsClient, keyId: string): Promise<void> {
  for (let i = 0; i < 8; i++) await kms.encryptWithDek(keyId, randomBytes(100));
}

test.serial('the scanner finds every form of a key that is planted in another process', async (t) => {
  if (skipped(t, hindrance)) return;
  const key = randomBytes(32);
  // The child makes all forms from a key that never crosses as one of them: its bytes come turned over.
  const script = `
    const key = Buffer.from(process.argv[1].split(',').map((byte) => 255 - byte));
    const words = Buffer.from(key).swap32();
    const hex = key.toString('hex');
    globalThis.kept = [key, words, Buffer.from(key.map((b) => b ^ 0x36)), Buffer.from(key.map((b) => b ^ 0x5c)),
      Buffer.from(hex), Buffer.from(hex.toUpperCase()), Buffer.from(key.toString('base64')), Buffer.from(key.toString('base64url')),
      Buffer.from(hex, 'utf16le'), Buffer.from(key.toString('base64'), 'utf16le')];
    // The round constants of SHA-256 from their definition: the cube roots of the first primes.
    const schedule = Buffer.alloc(32);
    for (const [i, prime] of [2, 3, 5, 7, 11, 13, 17, 19].entries()) {
      const constant = Math.floor((Math.cbrt(prime) % 1) * 2 ** 32);
      schedule.writeUInt32LE((key.readUInt32BE(4 * i) + constant) % 2 ** 32, 4 * i);
    }
    globalThis.kept.push(schedule);
    process.stdin.resume();
    console.log('planted');
  `;
  const crossing = [...key].map((byte) => 255 - byte).join(',');
  const child = spawn(process.execPath, ['-e', script, crossing], { stdio: ['pipe', 'pipe', 'pipe'] });
  t.teardown(() => child.kill());
  await saying(child, new Printed(child), /planted/);
  const { hits, bytes } = await scanner.scan(child.pid!, needlesOf('key', key));
  const forms = new Set(hits.map(({ needle }) => needle));
  for (const form of [
    'raw',
    'raw-words',
    'raw-schedule',
    'ipad',
    'opad',
    'hex',
    'upper-hex',
    'base64',
    'base64url',
    'hex-16',
    'base64-16',
  ]) {
    for (const half of ['first', 'last']) t.true(forms.has(`key/${form}/${half}`), `${form}, ${half} half`);
  }
  for (const half of ['first', 'last']) t.true(forms.has(`key/raw/${half}-low`), `the lower part of the ${half} half`);
  t.true(bytes > 10_000_000);
  t.deepEqual((await scanner.scan(child.pid!, needlesOf('other', randomBytes(32)))).hits, []);
});

test.serial('a daemon that keeps no contexts has no key outside its arena, whatever it did', async (t) => {
  if (skipped(t, hindrance)) return;
  const at = place(t);
  const raw = [randomBytes(32), randomBytes(32), randomBytes(32)];
  const ids = imported(at, raw);
  const daemon = await served(t, at, '--kept-contexts', '0');
  const kms = await client(t, at);
  for (const thread of ['a', 'b']) ids.push((await kms.createDekForThread(thread)).keyId);
  await busy(kms, ids);
  const { keys, deks } = openedStore(at.dataDir, at.masterKeyFile);
  t.deepEqual(
    raw,
    ids.slice(0, 3).map((id) => deks.get(id)!),
    'the documents are read as they were written',
  );
  t.is(deks.size, 6, 'the imported ones, the created ones and the default key');
  const needles = [...needlesOfAll(keys), ...needlesOfAll(deks), ...markerNeedles(at)];
  holds(t, await scanner.scan(daemon.pid, needles));
});

test.serial('with kept contexts the data keys in use are on the heap, and no other key', async (t) => {
  if (skipped(t, hindrance)) return;
  const at = place(t);
  const daemon = await served(t, at);
  const kms = await client(t, at);
  const ids: string[] = [];
  for (const thread of ['a', 'b', 'c']) ids.push((await kms.createDekForThread(thread)).keyId);
  await busy(kms, ids);
  for (const id of ids) await hot(kms, id);
  const { keys, deks } = openedStore(at.dataDir, at.masterKeyFile);
  const defaultKey = [...deks.keys()].filter((id) => !ids.includes(id));
  t.is(defaultKey.length, 1);
  const needles = [...needlesOfAll(keys), ...needlesOfAll(deks), ...markerNeedles(at)];
  holds(t, await scanner.scan(daemon.pid, needles), ...ids, ...defaultKey);
});

test.serial('a data key is gone from the heap when a disable, destroy, eviction or seal has answered', async (t) => {
  if (skipped(t, hindrance)) return;
  const at = place(t);
  const raw = Array.from({ length: 24 }, () => randomBytes(32));
  const ids = imported(at, raw);
  const daemon = await served(t, at, '--cached-keys', '8', '--context-idle-ms', '0');
  const kms = await client(t, at);
  const [disabled, destroyed, evicted, sealed] = ids as [string, string, string, string];
  const names = ['disabled', 'destroyed', 'evicted', 'sealed'];
  const needles = [...names.flatMap((name, index) => needlesOf(name, raw[index]!)), ...markerNeedles(at)];
  const only = async (...expected: string[]) => holds(t, await scanner.scan(daemon.pid, needles), ...expected);

  for (const id of [disabled, destroyed, evicted, sealed]) await hot(kms, id);
  await only('destroyed', 'disabled', 'evicted', 'sealed');
  await kms.disableKey(disabled);
  await only('destroyed', 'evicted', 'sealed');
  await kms.disableKey(destroyed);
  await kms.destroyKey(destroyed);
  await only('evicted', 'sealed');
  for (const id of ids.slice(4)) await hot(kms, id);
  await hot(kms, sealed);
  await only('sealed');
  await kms.seal();
  await only();
});

test.serial('an idle data key is wiped from the heap while it stays in the arena', async (t) => {
  if (skipped(t, hindrance)) return;
  const at = place(t);
  const raw = randomBytes(32);
  const [id] = imported(at, [raw]);
  const daemon = await served(t, at, '--context-idle-ms', '4000');
  const kms = await client(t, at);
  const needles = [...needlesOf('idle', raw), ...markerNeedles(at)];
  const seen = async () => found((await scanner.scan(daemon.pid, needles)).hits);
  await hot(kms, id!);
  t.deepEqual(await seen(), ['idle', 'marker']);
  let gone = false;
  for (let look = 0; look < MOST_LOOKS && !gone; look++) {
    await new Promise((wake) => setTimeout(wake, 250));
    gone = !(await seen()).includes('idle');
  }
  t.true(gone, 'it is wiped');
  t.is((await kms.status())['cached_keys'], 1);
  await hot(kms, id!);
  t.deepEqual(await seen(), ['idle', 'marker'], 'and comes back with its use');
});

test.serial('an application that embeds the service has no key outside the arena, and none when it has closed it', async (t) => {
  if (skipped(t, hindrance)) return;
  const at = place(t);
  const raw = randomBytes(32);
  const args = ['--input-type=module', '-e', EMBEDDING, at.dataDir, at.masterKeyFile, turnedOver(raw).join(',')];
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  const printed = new Printed(child);
  t.teardown(async () => {
    child.kill();
    await once(child, 'exit');
  });
  await saying(child, printed, /open/);
  const { keys, deks } = openedStore(at.dataDir, at.masterKeyFile);
  const needles = [...needlesOfAll(keys), ...needlesOfAll(deks), ...markerNeedles(at)];
  t.is(deks.size, 3);
  t.true(
    [...deks.values()].some((dek) => dek.equals(raw)),
    'the raw key is one of those looked for',
  );
  holds(t, await scanner.scan(child.pid!, needles));
  child.stdin.write('close');
  await saying(child, printed, /shut/);
  holds(t, await scanner.scan(child.pid!, needles));
});

const EMBEDDING = `
  const { createEmbeddedKms } = await import('${new URL('../../dist/create.js', import.meta.url).href}');
  const { passRawKey } = await import('${new URL('./raw-key.js', import.meta.url).href}');
  const [dataDir, masterKeyFile, turned] = process.argv.slice(1);
  const kms = await createEmbeddedKms({ dataDir, masterKeyFile, keptContexts: 0, exposeRawKeys: true });
  const imported = await passRawKey(kms, turned.split(',').map(Number));
  kms.decryptSync(imported, kms.encryptSync(imported, Buffer.alloc(100)));
  const { keyId } = await kms.createDekForThread('thread');
  const out = Buffer.alloc(1000);
  for (let i = 0; i < 2000; i++) {
    kms.decryptSync(keyId, kms.encryptSync(keyId, Buffer.alloc(100)));
    kms.encryptInto(keyId, Buffer.alloc(100), undefined, out);
  }
  await kms.decrypt(await kms.encrypt(Buffer.alloc(1_000_000)));
  await kms.seal();
  await kms.unseal();
  await kms.encryptWithDek(keyId, Buffer.alloc(400_000));
  process.stdin.once('data', async () => {
    await kms.close();
    console.log('shut');
    setInterval(() => {}, 1000);
  });
  console.log('open');
`;
