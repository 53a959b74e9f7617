import { execFileSync } from 'node:child_process';
import test from 'ava';
import Fastify from 'fastify';
import { threadsPlugin } from '../../dist/fastify/index.js';
import { openMemoryThreadStore, openThreads, Threads } from '../../dist/threads/index.js';
import { rowsOf } from '../house/sources.js';
import { skipped } from '../secrets/scanner.js';
import { block, runScript } from './documented.js';
import { Stage } from './session.js';

const PAGE = 'docs/THREADS.md';

function missing(command: string): string | undefined {
  try {
    execFileSync(command, ['--version'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return `needs ${command}`;
  }
}

test.serial('the walk of docs/THREADS.md works: post, look at the bytes, rotate, fetch', async (t) => {
  const stage = await Stage.make();
  t.teardown(() => stage.clear());
  const setting = await block(PAGE, '## A walk');
  const [, exported = ''] = /^export (.*)$/m.exec(setting) ?? [];
  for (const pair of exported.split(' ')) {
    const [name = '', value = ''] = pair.split('=');
    stage.env[name] = value;
  }
  t.is((await stage.run(setting)).exit, 0);
  t.is(await runScript(t, 'post', await block(PAGE, '<!-- example: post -->'), stage.work), 'see you at nine\n');

  const bytes = await stage.run(await block(PAGE, '<!-- example: bytes -->'));
  const [, before = ''] = /^"body":\{"_enc":"gcm1","k":"(k_[0-9a-f]{32})","v":"[^"]+"\}\n0\n$/.exec(bytes.stdout) ?? [];
  t.not(before, '', bytes.stdout);

  const rotated = await stage.run(await block(PAGE, '<!-- example: rotate -->'));
  const [, after = ''] = /^chat\/42 {2}job_\S+ {2}done {2}1 moved {2}(k_\S+)\n/.exec(rotated.stdout) ?? [];
  t.not(after, before);
  t.regex(rotated.stdout, new RegExp(`^"body":\\{"_enc":"gcm1","k":"${after}"`, 'm'));

  const served = (await block(PAGE, 'here through the server')).trim();
  t.is(await stage.start(served), undefined);
  if (skipped(t, missing('curl'))) return;
  const fetched = await stage.run(await block(PAGE, '<!-- example: fetch -->'));
  const { messages, next } = JSON.parse(fetched.stdout);
  t.like(messages[0], { thread_id: 'chat/42', author: 'ann', body: { text: 'see you at nine' }, error: null });
  t.is(next, null);
  t.is(await stage.stop(), undefined);
});

test('the plugin of docs/THREADS.md is registered as it is there, and asks for its token', async (t) => {
  const opening = "import { openMemoryThreadStore, openThreads } from 'progressdb-kms/threads';\n";
  const threads = 'const threads = await openThreads({ store: openMemoryThreadStore() });\n';
  const asking = `
process.env.ADMIN_TOKEN = 'x';
const asked = async (authorization) => (await app.inject({ url: '/admin/jobs', headers: { authorization } })).statusCode;
console.log(await asked('Bearer x'), await asked('Bearer y'));`;
  const code = opening + threads + (await block(PAGE, '<!-- example: plugin -->')) + asking;
  t.is(await runScript(t, 'plugin', code, '.'), '200 403\n');
});

test('docs/THREADS.md names every call of the library, and no other', (t) => {
  const cells = rowsOf(PAGE, /^`[a-zA-Z]+\(/).map(([first = '']) => first);
  const ofStore = new Set(['get', 'range', 'commit', 'compact']);
  const named = cells.flatMap((cell) => [...cell.matchAll(/`(\w+)\(/g)].map(([, name]) => name as string));
  const calls = Object.getOwnPropertyNames(Threads.prototype).filter((name) => name !== 'constructor');
  t.deepEqual([...new Set(named.filter((name) => !ofStore.has(name)))].sort(), calls.sort());
});

test('docs/THREADS.md names every endpoint with its action, and no other', async (t) => {
  const app = Fastify({ routerOptions: { maxParamLength: 256 } });
  const routes: string[] = [];
  app.addHook('onRoute', ({ method, url }) => {
    if (method !== 'HEAD') routes.push(`${method} ${url}`);
  });
  const threads = await openThreads({ store: openMemoryThreadStore() });
  let asked = '';
  const note = (_request: unknown, action: string) => {
    asked = action;
    return false;
  };
  await app.register(threadsPlugin, { threads, authorize: note, authorizeThread: note });
  const rows = rowsOf(PAGE, /^`(GET|POST|PUT|DELETE) \//).map(([endpoint = '', action = '']) => [endpoint, action]);
  t.deepEqual(rows.map(([endpoint = '']) => endpoint.replaceAll('`', '')).sort(), routes.sort());
  for (const [endpoint = '', action] of rows) {
    const [method = '', url = ''] = endpoint.replaceAll('`', '').split(' ');
    const body = method === 'POST' || method === 'PUT' ? { payload: bodyFor(url) } : {};
    await app.inject({ method: method as 'GET', url: url.replaceAll(/:\w+/g, 'x'), ...body });
    t.is(`\`${asked}\``, action as string, endpoint);
  }
});

function bodyFor(url: string): object {
  return /\/messages/.test(url) ? { body: 1 } : {};
}
