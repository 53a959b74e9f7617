import { chmodSync, chownSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import test from 'ava';
import { createToken, listTokens, revokeToken } from '../../dist/daemon/token-writer.js';
import { Tokens } from '../../dist/daemon/tokens.js';
import { KmsError } from '../../dist/errors.js';
import { binding } from '../../dist/native.js';
import { Child } from '../crash/child.js';
import { skipped } from '../secrets/scanner.js';
import { newDataDir } from '../store/data-dir.js';

const ADDER = resolve('dist-test/daemon/token-adder.js');

test('two processes that make tokens at once lose none of each other’s, while a daemon holds the directory', async (t) => {
  const dataDir = newDataDir(t);
  const daemons = binding.lockDirectory(dataDir);
  t.teardown(() => binding.unlock(daemons));
  const start = binding.lockFile(join(dataDir, 'tokens.lock'));
  const adders = ['one', 'two'].map((name) => new Child([ADDER, dataDir, name, '50']));
  await Promise.all(adders.map((adder) => new Promise<void>((ready) => (adder.onLine = () => ready()))));
  binding.unlock(start);
  await Promise.all(adders.map((adder) => adder.finished()));
  const listed = (await listTokens(dataDir)).map(({ name }) => name);
  t.deepEqual([listed.filter((name) => name === 'one').length, listed.filter((name) => name === 'two').length], [50, 50]);
  const tokens = new Tokens(dataDir);
  const said = adders.flatMap(({ lines }) => lines.slice(1));
  t.is(said.length, 100);
  for (const token of said) t.truthy(tokens.identify(token));
});

test('changes of one process at once lose none either', async (t) => {
  const dataDir = newDataDir(t);
  const gone = await createToken(dataDir, { roles: ['client'] });
  const made = Array.from({ length: 10 }, () => createToken(dataDir, { roles: ['client'] }));
  await Promise.all([...made, revokeToken(dataDir, gone.tokenId)]);
  const ids = (await Promise.all(made)).map(({ tokenId }) => tokenId).sort();
  t.deepEqual((await listTokens(dataDir)).map(({ tokenId }) => tokenId).sort(), ids);
});

test('a change waits for another one that is under way', async (t) => {
  const dataDir = newDataDir(t);
  const lock = binding.lockFile(join(dataDir, 'tokens.lock'));
  const made = createToken(dataDir, { roles: ['client'] });
  const first = await Promise.race([made.then(() => 'made'), new Promise((done) => setTimeout(done, 100, 'waits'))]);
  t.is(first, 'waits');
  t.deepEqual(await listTokens(dataDir), []);
  binding.unlock(lock);
  const { tokenId } = await made;
  t.is((await listTokens(dataDir))[0]?.tokenId, tokenId);
});

test('what is listed is what was given, without the hash', async (t) => {
  const dataDir = newDataDir(t);
  const before = Date.now();
  const { tokenId } = await createToken(dataDir, {
    roles: ['client'],
    name: 'billing',
    lifeMs: 1_000,
    threadPrefixes: ['invoice/'],
    own: true,
    createdBy: 'uid:7',
  });
  const [token, ...others] = await listTokens(dataDir);
  t.deepEqual(others, []);
  const { createdAt, expiresAt, ...rest } = token!;
  t.deepEqual(rest, { tokenId, name: 'billing', roles: ['client'], createdBy: 'uid:7', threadPrefixes: ['invoice/'], own: true });
  t.true(Date.parse(createdAt) >= before && Date.parse(createdAt) <= Date.now());
  t.is(Date.parse(expiresAt!) - Date.parse(createdAt), 1_000);
  const plain = await createToken(dataDir, { roles: ['admin'] });
  t.like((await listTokens(dataDir))[1], {
    tokenId: plain.tokenId,
    name: '',
    expiresAt: null,
    createdBy: `uid:${process.geteuid?.() ?? 0}`,
    threadPrefixes: null,
    own: false,
  });
});

test('what no file may say is not written', async (t) => {
  const dataDir = newDataDir(t);
  for (const [wanted, message] of [
    [{ roles: [] }, /roles must be/],
    [{ roles: ['root' as 'admin'] }, /roles must be/],
    [{ roles: ['client'], name: '\u001b[2J' }, /name must be/],
    [{ roles: ['client'], threadPrefixes: [] }, /thread_prefixes must be/],
    [{ roles: ['client', 'admin'], own: true }, /go with the role client alone/],
    [{ roles: ['client'], lifeMs: 0 }, /lives at most 3650 days/],
    [{ roles: ['client'], lifeMs: Number.NaN }, /lives at most 3650 days/],
    [{ roles: ['client'], createdBy: 'two words' }, /created_by must be/],
  ] as const) {
    const refused = await t.throwsAsync(createToken(dataDir, wanted), { instanceOf: KmsError, message });
    t.is(refused?.code, 'INVALID_ARGUMENT');
  }
  const unknown = await t.throwsAsync(revokeToken(dataDir, '0123456789abcdef'), { instanceOf: KmsError });
  t.is(unknown?.message, 'invalid argument: there is no token of this id');
  t.deepEqual(await listTokens(dataDir), []);
});

test('a file too large to be read again is not written', async (t) => {
  const dataDir = newDataDir(t);
  await createToken(dataDir, {
    roles: ['client'],
    threadPrefixes: Array.from({ length: 16 }, (_, n) => `${n}`.padEnd(256, 'p')),
  });
  const path = join(dataDir, 'tokens.json');
  const document = JSON.parse(readFileSync(path, 'utf8')) as { tokens: object[] };
  const copies = Array.from({ length: 230 }, (_, index) => {
    const id = index.toString(16);
    return { ...document.tokens[0], token_id: id.padStart(16, '0'), sha256: id.padStart(64, '0') };
  });
  const full = JSON.stringify({ format: 1, tokens: copies });
  writeFileSync(path, full);
  t.is((await listTokens(dataDir)).length, 230);
  const refused = await t.throwsAsync(createToken(dataDir, { roles: ['client'] }), { instanceOf: KmsError });
  t.is(refused?.code, 'TOO_LARGE');
  t.is(readFileSync(path, 'utf8'), full);
});

test('a directory that is not there or that others can reach gets no tokens', async (t) => {
  const dataDir = newDataDir(t);
  const none = join(dataDir, 'none');
  for (const act of [() => createToken(none, { roles: ['client'] }), () => listTokens(none), () => revokeToken(none, '0')]) {
    t.is((await t.throwsAsync(act(), { instanceOf: KmsError }))?.message, `the key store is unavailable: there is no ${none}`);
  }
  chmodSync(dataDir, 0o750);
  const wide = await t.throwsAsync(createToken(dataDir, { roles: ['client'] }), { instanceOf: KmsError });
  t.is(wide?.message, `permission denied: ${dataDir} has mode 0750; run: chmod 700 ${dataDir}`);
});

test('file and lock are closed to others, and of the directory’s owner when root writes them', async (t) => {
  const dataDir = newDataDir(t);
  const paths = ['tokens.json', 'tokens.lock'].map((name) => join(dataDir, name));
  await createToken(dataDir, { roles: ['client'] });
  for (const path of paths) t.is(statSync(path).mode & 0o7777, 0o600, path);
  if (skipped(t, process.geteuid?.() === 0 ? undefined : 'needs root to write for another user')) return;
  for (const path of paths) rmSync(path);
  chownSync(dataDir, 4_242, 4_243);
  await createToken(dataDir, { roles: ['client'] });
  for (const path of paths) t.deepEqual([statSync(path).uid, statSync(path).gid], [4_242, 4_243], path);
  t.is((await listTokens(dataDir)).length, 1, 'root reads it');
});
