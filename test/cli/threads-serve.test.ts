import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, readdirSync, readFileSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import Fastify from 'fastify';
import { listen, stop } from '../../dist/cli/threads/server.js';
import { openLmdbThreadStore } from '../../dist/threads/index.js';
import { scratch } from '../daemon/running.js';
import { freePort } from '../free-port.js';
import { ADMIN, ask, askAt, post, serving, TOKEN, threadStage } from './threads-ground.js';

function bytesIn(directory: string): string {
  return readdirSync(directory)
    .map((name) => readFileSync(join(directory, name), 'latin1'))
    .join('\n');
}

test.serial('a server in embedded mode keeps messages over a restart, encrypted, and ends cleanly', async (t) => {
  const stage = await threadStage(t);
  await serving(t, stage);
  t.is(statSync(join(stage.work, 'threads.sock')).mode & 0o777, 0o600);
  t.is((await ask(stage, 'GET', '/healthz')).text, 'ok');
  await post(t, stage, 'chat/1');
  const { new_key: key } = (await ask(stage, 'POST', '/admin/rotate_thread_dek', { thread_id: 'chat/1' }, ADMIN)).json;
  t.regex(key, /^k_/);
  t.is(await stage.stop(), undefined);
  t.false(existsSync(join(stage.work, 'threads.sock')));
  const bytes = bytesIn(join(stage.work, 'chats'));
  t.true(bytes.includes('gcm1'), 'the messages would be seen');
  t.false(bytes.includes('secret text'));
  await serving(t, stage);
  const { json } = await ask(stage, 'GET', '/threads/chat%2F1/messages');
  t.deepEqual(
    json.messages.map(({ body }: { body: string }) => body),
    ['secret text 0', 'secret text 1', 'secret text 2'],
  );
  t.is(await stage.stop(), undefined);
});

test.serial('a server in external mode needs no master key, and stores nothing while the daemon is away', async (t) => {
  const daemon = await threadStage(t);
  t.is(await daemon.start('progressdb-kms serve'), undefined);
  const stage = await threadStage(t);
  for (const name of ['PROGRESSDB_KMS_MASTER_KEY_FILE', 'PROGRESSDB_KMS_DATA_DIR']) delete stage.env[name];
  stage.env['PROGRESSDB_KMS_MODE'] = 'external';
  stage.env['PROGRESSDB_KMS_SOCKET'] = join(daemon.work, 'kms.sock');
  await serving(t, stage);
  await post(t, stage, 'a');
  const { json } = await ask(stage, 'POST', '/admin/rotate_thread_dek', { thread_id: 'a' }, ADMIN);
  t.is(json.status, 'ok');
  t.like((await ask(stage, 'GET', '/threads/a')).json, { key_id: json.new_key });
  t.true(readdirSync(join(daemon.work, 'data', 'kms-deks')).includes(`${json.new_key}.json`), 'the daemon has the key');
  for (let state = ''; state !== 'done'; ) {
    state = (await ask(stage, 'GET', `/admin/jobs/${json.job_id}`, undefined, ADMIN)).json.state;
  }
  t.is(await daemon.stop(), undefined);
  // Not there, or not there in time: the client waits a while for one that starts again.
  const refused = await Promise.all([
    ask(stage, 'POST', '/threads/a/messages', { body: 'lost' }),
    ask(stage, 'GET', '/threads/a/messages'),
    ask(stage, 'POST', '/threads', { thread_id: 'b' }),
  ]);
  for (const { status, text } of refused) t.true(status === 503 || status === 504, text);
  t.is(await daemon.start('progressdb-kms serve'), undefined);
  const { messages } = (await ask(stage, 'GET', '/threads/a/messages')).json;
  t.deepEqual(
    messages.map(({ body }: { body: string }) => body),
    ['secret text 0', 'secret text 1', 'secret text 2'],
  );
  t.is((await ask(stage, 'GET', '/threads/b')).status, 404);
  t.is(await stage.stop(), undefined);
});

test.serial('a server in external mode does not start without its daemon, whatever key file there is', async (t) => {
  const stage = await threadStage(t);
  stage.env['PROGRESSDB_KMS_MODE'] = 'external';
  const { exit, stderr } = await stage.run('progressdb-kms threads serve --listen threads.sock');
  t.is(exit, 21);
  t.regex(stderr, /no daemon answers on .*kms\.sock\n/);
  t.false(existsSync(join(stage.work, 'threads.sock')));
});

test.serial('without encryption messages are plain, and no key service is asked for', async (t) => {
  const stage = await threadStage(t);
  delete stage.env['PROGRESSDB_KMS_MASTER_KEY_FILE'];
  stage.env['PROGRESSDB_USE_ENCRYPTION'] = 'false';
  await serving(t, stage);
  await post(t, stage, 'a');
  t.is((await ask(stage, 'GET', '/threads/a')).json.key_id, null);
  t.is(await stage.stop(), undefined);
  t.true(bytesIn(join(stage.work, 'chats')).includes('secret text'));
  stage.env['PROGRESSDB_USE_ENCRYPTION'] = 'perhaps';
  const { exit, stderr } = await stage.run('progressdb-kms threads serve --listen threads.sock');
  t.is(exit, 2);
  t.regex(stderr, /PROGRESSDB_USE_ENCRYPTION must be true or false, not perhaps/);
});

test.serial('a field policy is taken from the option, and from the environment', async (t) => {
  const stage = await threadStage(t);
  stage.env['PROGRESSDB_ENCRYPTION_FIELDS'] = 'body.card, body.note';
  await serving(t, stage);
  await ask(stage, 'POST', '/threads', { thread_id: 'a' });
  const body = { card: 'covered one', note: 'covered two', rest: 'left open' };
  await ask(stage, 'POST', '/threads/a/messages', { body });
  t.is(await stage.stop(), undefined);
  const bytes = bytesIn(join(stage.work, 'chats'));
  t.true(bytes.includes('left open'));
  t.false(/covered/.test(bytes));
  await serving(t, stage, '--fields body');
  t.deepEqual((await ask(stage, 'GET', '/threads/a/messages')).json.messages[0].body, body);
  await ask(stage, 'POST', '/threads/a/messages', { body: { rest: 'now closed' } });
  t.is(await stage.stop(), undefined);
  t.false(bytesIn(join(stage.work, 'chats')).includes('now closed'));
});

test.serial('administrators are those with the token of the file, and nobody without a file', async (t) => {
  const stage = await threadStage(t);
  await serving(t, stage);
  const status = async (headers: object) => (await ask(stage, 'GET', '/admin/jobs', undefined, headers)).status;
  t.is(await status(ADMIN), 200);
  t.is(await status({ authorization: `bearer ${TOKEN}` }), 200);
  for (const wrong of [{}, { authorization: TOKEN }, { authorization: `Bearer ${TOKEN}x` }, { authorization: 'Bearer ' }]) {
    t.is(await status(wrong), 401);
  }
  t.is(await stage.stop(), undefined);
  await serving(t, stage, '');
  const { status: refused, json } = await ask(stage, 'GET', '/admin/jobs', undefined, ADMIN);
  t.is(refused, 403);
  t.deepEqual(json.error, { code: 'PERMISSION_DENIED', message: 'permission denied: this server has no --admin-token-file' });
  t.is((await ask(stage, 'DELETE', '/threads/a')).status, 403);
  t.is((await ask(stage, 'POST', '/threads', { thread_id: 'a' })).status, 201);
  t.is(await stage.stop(), undefined);
});

test.serial('a token file that others can read, or that holds none, is refused', async (t) => {
  const stage = await threadStage(t);
  const file = join(stage.work, 'admin.token');
  const serve = () => stage.run('progressdb-kms threads serve --listen threads.sock --admin-token-file admin.token');
  chmodSync(file, 0o644);
  const open = await serve();
  t.is(open.exit, 13);
  t.regex(open.stderr, /--admin-token-file: admin\.token is open to others: chmod o-rwx admin\.token/);
  chmodSync(file, 0o600);
  for (const text of ['', 'short', `${TOKEN} ${TOKEN}`]) {
    writeFileSync(file, text);
    const { exit, stderr } = await serve();
    t.is(exit, 2);
    t.regex(stderr, /16 or more visible ASCII characters/);
    t.false(stderr.includes(TOKEN));
  }
  t.false(existsSync(join(stage.work, 'chats')), 'nothing was opened for it');
});

test.serial(
  'on loopback a browser and a foreign name are refused, and unreadable paths are answered as errors are',
  async (t) => {
    const stage = await threadStage(t);
    const port = await freePort();
    t.is(await stage.start(`progressdb-kms threads serve --listen 127.0.0.1:${port}`), undefined);
    const at = { host: '127.0.0.1', port };
    const get = (path: string, headers: object = {}) => askAt(at, 'GET', path, undefined, headers);
    t.is((await get('/healthz')).status, 200);
    t.is((await get('/healthz', { host: `localhost:${port}` })).status, 200);
    for (const headers of [
      { host: 'evil.example' },
      { host: `evil.example:${port}` },
      { origin: 'null' },
      { 'sec-fetch-site': 'none' },
    ]) {
      const { status, json } = await get('/threads/a', headers);
      t.is(status, 403, JSON.stringify(headers));
      t.is(json.error.code, 'PERMISSION_DENIED');
    }
    t.deepEqual((await get('/nowhere')).json, { error: { code: 'UNSUPPORTED', message: 'not supported: no such path' } });
    for (const path of ['/threads/%zz', `/threads/${'a'.repeat(257)}`]) {
      const { status, json } = await get(path);
      t.is(status, 400, path);
      t.is(json.error.code, 'INVALID_ARGUMENT');
    }
    t.is(await stage.stop(), undefined);
  },
);

test.serial('a server listens on loopback or a socket only, and takes no socket from another', async (t) => {
  const stage = await threadStage(t);
  for (const address of ['0.0.0.0:6821', 'example.org:80', 'https://127.0.0.1:6821', '127.0.0.1:0', 'http://localhost']) {
    const { exit, stderr } = await stage.run(`progressdb-kms threads serve --listen ${address}`);
    t.is(exit, 2, address);
    t.regex(stderr, /--listen must be host:port of loopback, or the path of a socket\n/);
  }
  await serving(t, stage);
  const taken = await stage.run('progressdb-kms threads serve --listen threads.sock --store others');
  t.is(taken.exit, 23);
  writeFileSync(join(stage.work, 'file.sock'), 'mine');
  const file = await stage.run('PROGRESSDB_USE_ENCRYPTION=no progressdb-kms threads serve --listen ./file.sock --store others');
  t.is(file.exit, 23);
  t.regex(file.stderr, /file\.sock exists and is not a socket\nhint: --listen names another path\n/);
  t.is(readFileSync(join(stage.work, 'file.sock'), 'utf8'), 'mine');
  t.is((await ask(stage, 'GET', '/healthz')).status, 200, 'the first one goes on');
  t.is(await stage.stop(), undefined);
});

test.serial('a server takes the place of one that was killed, whatever that has left', async (t) => {
  const stage = await threadStage(t);
  const socket = join(stage.work, 'threads.sock');
  const child = spawn(`${stage.dir}/bin/progressdb-kms`, ['threads', 'serve', '--listen', 'threads.sock'], {
    cwd: stage.work,
    env: stage.env,
    stdio: 'ignore',
  });
  const ended = once(child, 'exit');
  while (!existsSync(socket)) await new Promise((wake) => setTimeout(wake, 10));
  child.kill('SIGKILL');
  await ended;
  t.true(existsSync(socket));
  await serving(t, stage);
  t.is((await ask(stage, 'GET', '/healthz')).text, 'ok');
  t.is(await stage.stop(), undefined);
  t.false(existsSync(socket));
});

test.serial('of many servers that find the same stale socket at once one gets it, and none takes it from that one', async (t) => {
  const directory = scratch(t);
  const path = join(directory, 'threads.sock');
  for (let round = 0; round < 5; round += 1) {
    await stale(path);
    const servers = Array.from({ length: 6 }, (_, i) => named(i));
    t.teardown(() => Promise.all(servers.map((app) => stop(app))));
    const results = await Promise.allSettled(servers.map((app) => listen(app, { path })));
    const winners = results.flatMap(({ status }, i) => (status === 'fulfilled' ? [i] : []));
    t.is(winners.length, 1);
    t.is((await askAt({ socketPath: path }, 'GET', '/')).text, `server ${winners[0]}`);
    t.is(statSync(path).mode & 0o777, 0o600);
    for (const result of results) {
      if (result.status === 'rejected') t.like(result.reason, { code: 'CONFLICT', hint: '--listen names another path' });
      else result.value?.close();
    }
    t.false(existsSync(path));
  }
});

test.serial('a server that ends removes its own socket only', async (t) => {
  const path = join(scratch(t), 'threads.sock');
  const [one, two] = [named(1), named(2)];
  const first = await listen(one, { path });
  unlinkSync(path);
  const second = await listen(two, { path });
  first?.close();
  await stop(one);
  t.is((await askAt({ socketPath: path }, 'GET', '/')).text, 'server 2');
  second?.close();
  await stop(two);
  t.false(existsSync(path));
});

function named(number: number) {
  const app = Fastify();
  app.get('/', async () => `server ${number}`);
  return app;
}

/** A socket file whose process was killed. */
async function stale(path: string): Promise<void> {
  const script = 'require("net").createServer().listen(process.argv[1], () => process.kill(process.pid, "SIGKILL"))';
  await once(spawn(process.execPath, ['-e', script, path], { stdio: 'ignore' }), 'exit');
}

test.serial('what a start could not end is in the log, and what it did', async (t) => {
  const stage = await threadStage(t);
  await serving(t, stage);
  // More than a minute's work: it is under way at the stop, however long that takes to come.
  await post(t, stage, 'a', 100);
  const slow = { thread_id: 'a', messages_per_second: 1, concurrency: 1 };
  t.is((await ask(stage, 'POST', '/admin/rotate_thread_dek', slow, ADMIN)).status, 200);
  t.is(await stage.stop(), undefined);
  const store = await openLmdbThreadStore(join(stage.work, 'chats'));
  const intention = JSON.stringify({ owner: 'dead', at: 0, since: new Date().toISOString() });
  const key = 'kms:provision:thread:lost';
  await store.commit([{ expect: [], put: [{ key, value: Buffer.from(intention) }], remove: [] }]);
  await store.close();
  const lines = async (awaited: string, env: NodeJS.ProcessEnv) => {
    const child = spawn(`${stage.dir}/bin/progressdb-kms`, ['threads', 'serve', '--listen', 'threads.sock'], {
      cwd: stage.work,
      env: { ...stage.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let said = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text) => {
        said += text;
      });
    while (child.exitCode === null && !said.includes(awaited)) await new Promise((wake) => setTimeout(wake, 10));
    child.kill('SIGTERM');
    await once(child, 'close');
    const told = said.trim().split('\n');
    return (name: string) => told.map((line) => JSON.parse(line)).find(({ event }) => event === name);
  };
  const without = await lines('keys_unknown', { PROGRESSDB_KMS_MASTER_KEY_FILE: '', PROGRESSDB_USE_ENCRYPTION: 'false' });
  t.like(without('recovered'), { jobs: 0, purged: 0 });
  t.like(without('keys_unknown'), { threads: 'lost' });
  t.like((await lines('recovered', {}))('recovered'), { jobs: 1, purged: 0 });
});
