import { execFile, execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { running } from '../daemon/running.js';
import { skipped } from '../secrets/scanner.js';

const MAIN = resolve('dist/cli/main.js');
const run = promisify(execFile);

function withoutCurl(): string | undefined {
  try {
    execFileSync('curl', ['--version'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return 'needs curl';
  }
}

/** The flow of seeds/single-server-mode.md, "Using client-side encrypted databases", on a daemon over TCP. */
async function server(t: ExecutionContext) {
  const { daemon, directory } = await running(t, {}, { endpoints: [{ host: '127.0.0.1', port: 0 }] });
  return { daemon, directory, url: `http://127.0.0.1:${daemon.ports[0]}` };
}

test('with curl a database is made, and its secret in the header opens it in every later request', async (t) => {
  if (skipped(t, withoutCurl())) return;
  const { daemon, url } = await server(t);
  const curl = async (...args: string[]) => (await run('curl', ['-s', ...args])).stdout;
  // curl -X POST https://my-server:9998/new_database
  const answer = await curl('-X', 'POST', `${url}/new_database`);
  t.regex(answer, /^"[A-Za-z0-9+/]+={0,2}"$/, 'the secret is the value between the quotes, and nothing follows them');
  const secret = answer.slice(1, -1);
  t.regex(Buffer.from(secret, 'base64').toString(), /^\{"group_id":\d+,"key":"[0-9a-f]{64}"\}$/);
  t.not(await curl('-X', 'POST', `${url}/new_database`), answer, 'a new additional one');
  // curl -H "KmsDatabaseSecret: …" http://localhost:9998/objects/owned
  const header = ['-H', `KmsDatabaseSecret: ${secret}`];
  t.deepEqual(JSON.parse(await curl(...header, `${url}/objects/owned`)), { objects: [], next: null });
  const { key_id } = JSON.parse(await curl(...header, `${url}/create_dek_for_thread`, '-d', '{"thread_id":"chat/42"}'));
  const sealed = JSON.parse(await curl(...header, `${url}/encrypt`, '-d', JSON.stringify({ key_id, plaintext: 'aGVsbG8=' })));
  const body = JSON.stringify({ key_id, ciphertext: sealed.ciphertext });
  t.deepEqual(JSON.parse(await curl(...header, `${url}/decrypt`, '-d', body)), { plaintext: 'aGVsbG8=' });
  const { objects } = JSON.parse(await curl(...header, `${url}/objects/owned`));
  t.like(objects, [{ object_id: key_id, state: 'active', attributes: { thread_id: 'chat/42' } }]);
  t.deepEqual(JSON.parse(await curl(`${url}/objects/owned`)), { objects: [], next: null });
  t.like(JSON.parse(await curl(`${url}/decrypt`, '-d', body)), { error: { code: 'KEY_NOT_FOUND' } });
  t.deepEqual((await daemon.kms.listKeys()).keys, []);
});

test('the command line makes a database, and its secret in kms.json opens it in every later command', async (t) => {
  const { directory, url } = await server(t);
  const kms = async (...args: string[]) => {
    const env = { PATH: process.env['PATH'], HOME: directory };
    return (await run(process.execPath, [MAIN, ...args], { cwd: directory, env })).stdout;
  };
  // ckms new-database
  writeFileSync(join(directory, 'kms.json'), JSON.stringify({ kms_server_url: url }), { mode: 0o600 });
  const secret = (await kms('new-database')).trimEnd();
  writeFileSync(join(directory, 'kms.json'), `{\n  "kms_server_url": "${url}",\n  "kms_database_secret": "${secret}"\n}\n`);
  const keyId = (await kms('create-dek', '--thread', 'chat/42')).trimEnd();
  writeFileSync(join(directory, 'note'), 'of one tenant');
  await kms('encrypt', 'note', '--key', keyId, '-o', 'note.sealed');
  t.is(await kms('decrypt', 'note.sealed'), 'of one tenant');
  t.regex(await kms('keys', 'list', '--own'), new RegExp(`^${keyId}`));
  const other = JSON.stringify({ kms_server_url: url, kms_database_secret: (await kms('new-database')).trimEnd() });
  writeFileSync(join(directory, 'kms.json'), other);
  t.is(await kms('keys', 'list', '--own'), '');
  t.is(readFileSync(join(directory, 'kms.json'), 'utf8'), other);
});
