import { execFileSync } from 'node:child_process';
import { createCipheriv, randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join, resolve } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { EmbeddedKms } from '../../dist/create.js';
import { binding } from '../../dist/native.js';
import type { StoreKind } from '../../dist/store/key-store.js';
import { Vault } from '../../dist/vault.js';
import { type RecordJson, readJson, recordPath } from '../provider/edited.js';
import { refused, refusedSync } from '../provider/refused.js';
import { newPlace, openAt, openMemory, type Place } from '../provider/subjects.js';
import { cli, on } from '../recovery/ground.js';

/** The vector of the original: its key, a wrapped data key, and what that encrypted. */
const OLD = '0123456789abcdef'.repeat(4);
const VECTOR = 'lh9O+BIpMvwz6czMtQpnbO5VA5CRkcu7FItgZsJdtMXgUHi49DA8KO/sDCqwDL0WEXwVQa7AhIRJMqMw';
const CIPHERTEXT = Buffer.from('tETd83wzm0m1blmiXDHA/l8HydefEKHqMvUgJM/WlSHUABBMneOBfkHV4Ng=', 'base64');

function seal(key: Buffer, plaintext: Buffer): Buffer {
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  return Buffer.concat([nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

/** A key as the original makes it, and a message under it. */
function original(id: string, threadId?: string) {
  const dek = randomBytes(32);
  const wrapped = seal(Buffer.from(OLD, 'hex'), dek).toString('base64');
  return { id, threadId, dek, wrapped, ciphertext: seal(dek, Buffer.from(`of ${id}`)) };
}

type Original = ReturnType<typeof original>;

const lineOf = ({ id, threadId, wrapped }: Original) => JSON.stringify({ key_id: id, wrapped, thread_id: threadId });

interface Ground {
  place: Place;
  oldKey: string;
  file(name: string, text: string): string;
  run(...args: string[]): ReturnType<typeof cli>;
}

async function ground(t: ExecutionContext, store: StoreKind = 'files'): Promise<Ground> {
  const place = newPlace(t);
  await (await openAt(t, place, { store })).close();
  const file = (name: string, text: string) => {
    writeFileSync(join(place.directory, name), text, { mode: 0o600 });
    return join(place.directory, name);
  };
  const oldKey = file('old.key', `${OLD}\n`);
  return {
    place,
    oldKey,
    file,
    run: (...args) => cli(place, ['import', ...args, '--from-master-key-file', oldKey, ...on(place)]),
  };
}

async function decrypts(t: ExecutionContext, kms: EmbeddedKms, { id, ciphertext }: Original): Promise<void> {
  t.is(Buffer.from(await kms.decryptWithDek(id, ciphertext)).toString(), `of ${id}`);
}

test('the vector of the original is imported and decrypts', async (t) => {
  const { place, file, run } = await ground(t);
  const ran = await run(file('keys.jsonl', `{"key_id":"k_1712345678901234567","wrapped":"${VECTOR}","thread_id":"chat/1"}\n`));
  t.is(ran.exit, 0, ran.stderr);
  t.is(ran.stdout, 'imported 1 key\n');
  const kms = await openAt(t, place);
  t.is(Buffer.from(await kms.decryptWithDek('k_1712345678901234567', CIPHERTEXT)).toString(), 'hello progressdb');
  t.like(await kms.describeKey('k_1712345678901234567'), {
    threadId: 'chat/1',
    state: 'active',
    version: 1,
    usesReserved: 2 ** 30,
  });
  const { ciphertext } = await kms.encryptWithDek('k_1712345678901234567', Buffer.from('on'));
  t.is(Buffer.from(await kms.decryptWithDek('k_1712345678901234567', ciphertext)).toString(), 'on');
  const record = readJson<RecordJson>(recordPath(place, 'k_1712345678901234567'));
  t.not(record.wrapped, VECTOR, 'it stands under a KEK of ours');
  t.is((await kms.health()).status, 'ok');
});

for (const store of ['files', 'lmdb'] as const) {
  test(`files and directories of the first generation are imported to ${store}, and keep their ids and times`, async (t) => {
    const { place, file, run } = await ground(t, store);
    const keys = [original('k_a', 'thread-a'), original('k_b'), original('k_c')];
    const dir = join(place.directory, 'g1');
    mkdirSync(join(dir, 'kms-deks'), { recursive: true });
    const json = ({ id, threadId, wrapped }: Original) =>
      JSON.stringify(
        { id, created_at: '2024-03-01T10:20:30.123456789+02:00', wrapped, ...(threadId && { thread_id: threadId }) },
        null,
        2,
      );
    for (const key of keys.slice(0, 2)) writeFileSync(join(dir, 'kms-deks', `${key.id}.json`), json(key));
    writeFileSync(join(dir, 'kms-deks', 'k_a.json.2024'), 'no key of now');
    writeFileSync(join(dir, 'kms-deks', '.k_a.json.tmp.json'), 'left over');
    const ran = await run(dir, file('k_c.json', json(keys[2]!)));
    t.is(ran.exit, 0, ran.stderr);
    t.is(ran.stdout, 'imported 3 keys\n');
    const kms = await openAt(t, place);
    for (const key of keys) await decrypts(t, kms, key);
    t.like(await kms.describeKey('k_a'), { threadId: 'thread-a', createdAt: '2024-03-01T08:20:30.123Z' });
    t.like(await kms.describeKey('k_b'), { threadId: null });
  });
}

test('anything that is wrong is named with its line, and nothing is imported', async (t) => {
  const { place, file, run } = await ground(t);
  const good = original('k_good');
  const cases: Array<[string, RegExp, number?]> = [
    ['{', /:2: not JSON/],
    ['[]', /:2: a JSON object was expected/],
    ['{"key_id":"../k_1"}', /:2: key_id must match/],
    ['{"key_id":"k_1"}', /:2: k_1: wrapped must be the base64 of 60 bytes/],
    [`{"key_id":"k_1","wrapped":"${good.wrapped.slice(0, 76)}"}`, /:2: k_1: wrapped must be/],
    [`{"key_id":"k_1","wrapped":"${good.wrapped.replace(/.$/, '-')}"}`, /:2: k_1: wrapped must be/],
    [`{"key_id":"k_1","wrapped":"${good.wrapped}","thread_id":"a b"}`, /:2: k_1: thread_id must match/],
    [`{"key_id":"k_1","wrapped":"${good.wrapped}","thread_id":7}`, /:2: k_1: thread_id must match/],
    [lineOf(good), /:2: k_good: stands in .*keys\.jsonl:1 already/],
    [lineOf({ ...good, id: 'k_1', wrapped: randomBytes(60).toString('base64') }), /:2: k_1: does not open under the master key/],
    [`{"key_id":"k_1","x":"${'x'.repeat(20_000)}"}`, /:2: longer than 16384 bytes/],
  ];
  for (const [line, detail] of cases) {
    const ran = await run(file('keys.jsonl', `${lineOf(good)}\n${line}\n\n${lineOf(original('k_last'))}\n`));
    t.is(ran.exit, 2, ran.stderr);
    t.regex(ran.stderr, detail);
    t.regex(ran.stderr, /nothing of \d was imported\n$/);
    t.deepEqual(readdirSync(join(place.dataDir, 'kms-deks')), []);
  }
  const ran = await run(file('keys.jsonl', `{\n[]\n${lineOf(good)}\n`));
  t.regex(
    ran.stderr,
    /:1: not JSON\n.*:2: a JSON object was expected\n.*:1: not JSON \(and 1 more\); nothing of \d was imported\n$/,
  );
  t.regex((await run(file('empty', '\n'))).stderr, /there is no key to import/);
  t.regex((await run(join(place.directory, 'absent'))).stderr, /absent cannot be read: ENOENT/);
  mkdirSync(join(place.directory, 'hollow'));
  t.regex((await run(join(place.directory, 'hollow'))).stderr, /holds no \.json file of a key/);
});

test('keys come through a pipe; one that stands where a key file should is named', async (t) => {
  const { place, oldKey, run } = await ground(t);
  const keys = [original('k_1'), original('k_2')];
  const args = ['import', '/dev/stdin', '--from-master-key-file', oldKey, ...on(place)];
  const ran = piped(place, args, `${keys.map(lineOf).join('\n')}\n`);
  t.is(ran, 'imported 2 keys\n');
  const kms = await openAt(t, place);
  for (const key of keys) await decrypts(t, kms, key);
  await kms.close();
  mkdirSync(join(place.directory, 'old'));
  execFileSync('mkfifo', [join(place.directory, 'old', 'k_3.json')]);
  const refusal = await run(join(place.directory, 'old'));
  t.regex(refusal.stderr, /k_3\.json: not a regular file/);
});

/** Through a pipe of the shell: what Node gives a child to read is a socket, which cannot be opened by a name. */
function piped({ directory }: Place, args: readonly string[], input: string): string {
  const command = ['-c', 'cat | exec "$@"', 'sh', process.execPath, resolve('dist/cli/main.js'), ...args];
  return execFileSync('/bin/sh', command, { input, cwd: directory, encoding: 'utf8', stdio: ['pipe', 'pipe', 'ignore'] });
}

test('an import that is run again goes on where it was cut short', async (t) => {
  const { place, file, run } = await ground(t);
  const keys = Array.from({ length: 20 }, (_, i) => original(`k_${i}`, `thread/${i}`));
  const path = file('keys.jsonl', keys.map(lineOf).join('\n'));
  t.is((await run(path)).exit, 0);
  for (const { id } of keys.slice(7)) rmSync(recordPath(place, id));
  const again = await run(path, '--json');
  t.is(again.exit, 0, again.stderr);
  t.deepEqual(JSON.parse(again.stdout), { imported: 13, present: 7 });
  const kms = await openAt(t, place);
  for (const key of keys) await decrypts(t, kms, key);
});

test("an id that is another key here, another thread's, or destroyed is a conflict", async (t) => {
  const { place, file, run } = await ground(t);
  const key = original('k_1', 'thread/1');
  t.is((await run(file('keys.jsonl', lineOf(key)))).exit, 0);
  const other = await run(file('keys.jsonl', lineOf({ ...original('k_1', 'thread/1') })));
  t.is(other.exit, 23);
  t.regex(other.stderr, /keys\.jsonl:1: k_1: the store has another key of this id/);
  const moved = await run(file('keys.jsonl', lineOf({ ...key, threadId: 'thread/2' })));
  t.regex(moved.stderr, /the store has this key for another thread/);
  const kms = await openAt(t, place);
  await kms.disableKey('k_1');
  await kms.destroyKey('k_1');
  await kms.close();
  t.regex((await run(file('keys.jsonl', lineOf(key)))).stderr, /k_1: the store has destroyed this key/);
});

test('the wrong old master key imports nothing', async (t) => {
  const { place, file } = await ground(t);
  const wrong = file('wrong.key', `${'fedcba9876543210'.repeat(4)}\n`);
  const path = file('keys.jsonl', lineOf(original('k_1')));
  const ran = await cli(place, ['import', path, '--from-master-key-file', wrong, ...on(place)]);
  t.is(ran.exit, 2);
  t.regex(ran.stderr, /does not open under the master key that it is said to stand under/);
  const absent = await cli(place, ['import', path, '--from-master-key-file', join(place.directory, 'absent'), ...on(place)]);
  t.not(absent.exit, 0);
  t.deepEqual(readdirSync(join(place.dataDir, 'kms-deks')), []);
});

/** A server that answers GET /get_wrapped as the original does, or as `answer` says. */
async function fakeOriginal(
  t: ExecutionContext,
  keys: readonly Original[],
  answer?: (id: string) => [number, string] | undefined,
) {
  const seen: Array<string | undefined> = [];
  const server = createServer((request, response) => {
    const url = new URL(request.url!, 'http://x');
    seen.push(request.headers.authorization);
    const id = url.searchParams.get('key_id')!;
    const key = url.pathname.endsWith('/get_wrapped') ? keys.find((one) => one.id === id) : undefined;
    const [status, body] =
      answer?.(id) ?? (key === undefined ? [404, 'not found'] : [200, JSON.stringify({ wrapped: key.wrapped })]);
    response.writeHead(status, status === 302 ? { location: '/elsewhere' } : {}).end(body);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  t.teardown(() => server.close());
  return { port: (server.address() as AddressInfo).port, seen };
}

test('keys are fetched from a running daemon of the original', async (t) => {
  const { place, file, run } = await ground(t);
  const keys = Array.from({ length: 30 }, (_, i) => original(`k_${i}`, i % 2 === 0 ? `thread/${i}` : undefined));
  const { port, seen } = await fakeOriginal(t, keys);
  const ids = file('ids', keys.map(({ id, threadId = '' }) => `${id} ${threadId}`).join('\n'));
  const ran = await run('--from', `http://kms:s%20cret@127.0.0.1:${port}/prefix/`, '--ids', ids);
  t.is(ran.exit, 0, ran.stderr);
  t.is(seen.length, 30);
  t.is(new Set(seen).size, 1);
  t.is(seen[0], `Basic ${Buffer.from('kms:s cret').toString('base64')}`);
  const log = readFileSync(join(place.dataDir, 'kms-audit.log'), 'utf8');
  t.true(log.includes(`"source":"http://127.0.0.1:${port}/prefix"`), 'without the password');
  const kms = await openAt(t, place);
  for (const key of keys) await decrypts(t, kms, key);
  t.like(await kms.describeKey('k_4'), { threadId: 'thread/4' });
});

test('a daemon that answers otherwise than the original is refused, and imports nothing', async (t) => {
  const { place, file, run } = await ground(t);
  const ids = file('ids', 'k_1\n');
  const cases: Array<[[number, string], RegExp]> = [
    [[404, ''], /ids:1: k_1: the Go daemon has no such key/],
    [[500, 'x'], /ids:1: k_1: the Go daemon answers 500/],
    [[302, ''], /cannot be asked: the connection failed/],
    [[200, 'x'], /ids:1: k_1: the answer is not JSON/],
    [[200, 'null'], /k_1: wrapped must be the base64 of 60 bytes/],
    [[200, '{"wrapped":""}'], /k_1: wrapped must be the base64 of 60 bytes/],
    [[200, 'x'.repeat(100_000)], /k_1: the answer is longer than 4096 bytes/],
  ];
  for (const [answer, detail] of cases) {
    const { port } = await fakeOriginal(t, [], () => answer);
    const ran = await run('--from', `127.0.0.1:${port}`, '--ids', ids);
    t.not(ran.exit, 0);
    t.regex(ran.stderr, detail);
  }
  const closed = createServer();
  await new Promise<void>((done) => closed.listen(0, '127.0.0.1', done));
  const { port } = closed.address() as AddressInfo;
  await new Promise((done) => closed.close(done));
  t.regex(
    (await run('--from', `127.0.0.1:${port}`, '--ids', ids)).stderr,
    /the Go daemon at http:\/\/127\.0\.0\.1:\d+ cannot be asked: ECONNREFUSED/,
  );
  t.regex((await run('--from', '127.0.0.1:1', '--ids', file('bad', 'k_1 a b\n'))).stderr, /bad:1: a key id was expected/);
  t.regex((await run('--from', 'http://', '--ids', ids)).stderr, /not the URL of a Go daemon/);
  const stray = await run('--from', 'http://kms:100%@127.0.0.1:1', '--ids', ids);
  t.regex(stray.stderr, /not the URL of a Go daemon/);
  t.false(stray.stderr.includes('100%'));
  t.regex((await run('--from', '127.0.0.1:1')).stderr, /name files of keys, or a Go daemon/);
  t.deepEqual(readdirSync(join(place.dataDir, 'kms-deks')), []);
});

test('an import is refused while a daemon has the directory, and says what to do', async (t) => {
  const { place, file, run } = await ground(t);
  const path = file('keys.jsonl', lineOf(original('k_1')));
  const kms = await openAt(t, place);
  const ran = await run(path);
  t.is(ran.exit, 23);
  t.regex(ran.stderr, /in use by another process\nhint: .*stop its daemon first\n$/);
  await kms.close();
});

test('what a data directory of the Go daemon is refused with names the commands that work', async (t) => {
  const place = newPlace(t);
  mkdirSync(join(place.dataDir, 'kms.db'), { recursive: true, mode: 0o700 });
  const ran = await cli(place, ['serve', ...on(place)]);
  t.not(ran.exit, 0);
  const keys = [original('k_7')];
  const { port } = await fakeOriginal(t, keys);
  writeFileSync(join(place.directory, 'OLD.key'), OLD, { mode: 0o600 });
  writeFileSync(join(place.directory, 'IDS'), 'k_7\n');
  const commands = ran.stderr.match(/progressdb-kms (init|import) [^;\n"]*/g)!;
  t.is(commands.length, 2, ran.stderr);
  for (const command of commands) {
    const args = command
      .trim()
      .split(' ')
      .slice(1)
      .map((arg) => arg.replace(':6820', `:${port}`));
    const done = await cli(place, args);
    t.is(done.exit, 0, `${command}: ${done.stderr}`);
  }
  const kms = await openAt(t, {
    ...place,
    dataDir: join(place.directory, 'NEW'),
    masterKeyFile: join(place.directory, 'NEW.key'),
  });
  await decrypts(t, kms, keys[0]!);
});

test('only a master key unwraps a key of the original, and its wrapped keys open in no other way', async (t) => {
  await openMemory(t);
  const vault = Vault.open({ arenaBytes: 2 ** 20, keptContexts: 0 }, 1);
  t.teardown(() => vault.close());
  const wrapped = Buffer.from(VECTOR, 'base64');
  const master = vault.readMaster({ kind: 'bytes', bytes: Buffer.from(OLD, 'hex') });
  const dek = vault.unwrapOriginal(master, wrapped);
  t.true(vault.sameKey(dek, vault.unwrapOriginal(master, wrapped)));
  t.false(vault.sameKey(dek, vault.generate('dek')));
  for (const kind of ['slot', 'root', 'kek', 'mac', 'dek'] as const) {
    refusedSync(t, () => vault.unwrapOriginal(vault.generate(kind), wrapped), 'INVALID_ARGUMENT', undefined, kind);
  }
  refusedSync(t, () => vault.unwrap(master, wrapped, new Uint8Array(), 'dek'), 'INVALID_ARGUMENT');
  const broken = Buffer.from(wrapped);
  broken[20]! ^= 1;
  refusedSync(t, () => vault.unwrapOriginal(master, broken), 'AUTHENTICATION_FAILED');
  for (const length of [0, 59, 61])
    refusedSync(t, () => vault.unwrapOriginal(master, new Uint8Array(length)), 'AUTHENTICATION_FAILED', undefined, `${length}`);
  const kek = vault.generate('kek');
  const ours = vault.wrap(kek, dek, new Uint8Array());
  refusedSync(t, () => vault.unwrapOriginal(master, ours), 'AUTHENTICATION_FAILED');
});

test.serial('an import leaves no key in memory', async (t) => {
  const { place, file } = await ground(t);
  const kms = await openAt(t, place);
  const { used } = binding.arenaInfo();
  const path = file('old.key', `${OLD}\n`);
  const importing = kms.importing({ kind: 'file', path, mayBeGroupReadable: false });
  const key = { keyId: 'k_1', threadId: '', wrapped: Buffer.from(VECTOR, 'base64'), createdAt: new Date().toISOString() };
  t.false(await importing.isPresent(key));
  await importing.add(key, 'uid:0');
  t.true(await importing.isPresent(key));
  await refused(t, importing.isPresent({ ...key, wrapped: randomBytes(60) }), 'AUTHENTICATION_FAILED');
  importing.close();
  t.is(binding.arenaInfo().used, used);
  t.true(readFileSync(recordPath(place, 'k_1'), 'utf8').includes('"created_by": "uid:0"'));
});
