import { spawn } from 'node:child_process';
import { once } from 'node:events';
import test from 'ava';
import { connectKms, type RequestFields } from '../../dist/client/index.js';
import { KmsError } from '../../dist/errors.js';
import { echo, FakeServer } from './fake-server.js';

const KEY = `k_${'0'.repeat(32)}`;
const SECRET = 'a plaintext that stays here';
const CLIENT = new URL('../../dist/client/index.js', import.meta.url).href;

async function greeting(): Promise<FakeServer> {
  const server = await new FakeServer().listen();
  server.onRequest = (request) => (request.op === 0 ? request.answer(1, 'kms', 'mlock', false) : echo(request));
  return server;
}

test('each request gives the logger one line with its operation, size, time and outcome', async (t) => {
  const server = await greeting();
  t.teardown(() => server.remove());
  const lines: RequestFields[] = [];
  const logger = { debug: (fields: RequestFields) => void lines.push(fields) };
  const kms = await connectKms({ socket: server.path, logger });
  t.teardown(() => kms.close());
  await kms.encryptWithDek(KEY, Buffer.alloc(100), Buffer.alloc(5));
  await kms.decryptMany(KEY, [Buffer.alloc(3), Buffer.alloc(4)], [undefined, Buffer.alloc(1)]);
  await t.throwsAsync(kms.getWrapped(KEY), { message: /not supported/ });
  await t.throwsAsync(kms.decrypt(Buffer.alloc(1), undefined, { deadlineMs: 0 }));
  t.deepEqual(
    lines.map(({ id, operation, bytes, outcome }) => [id, operation, bytes, outcome]),
    [
      ['1', 'hello', 0, 'ok'],
      ['2', 'encrypt', 105, 'ok'],
      ['3', 'decrypt_many', 8, 'ok'],
      ['4', 'get_wrapped', 0, 'UNSUPPORTED'],
      ['5', 'decrypt', 1, 'DEADLINE_EXCEEDED'],
    ],
  );
  t.true(lines.every(({ ms }) => ms >= 0));
});

test('a logger that throws disturbs no request', async (t) => {
  const server = await greeting();
  t.teardown(() => server.remove());
  let calls = 0;
  const debug = () => {
    calls++;
    throw new Error('the disk is full');
  };
  const kms = await connectKms({ socket: server.path, logger: { debug } });
  t.teardown(() => kms.close());
  t.is((await kms.decryptWithDek(KEY, Buffer.of(7)))[0], 7);
  await t.throwsAsync(kms.getWrapped(KEY), { instanceOf: KmsError });
  t.is(calls, 3);
});

test('NODE_DEBUG=progressdb-kms writes the same lines to stderr, and without it there are none', async (t) => {
  const server = await greeting();
  t.teardown(() => server.remove());
  const script = `
    const { connectKms } = await import(${JSON.stringify(CLIENT)});
    const kms = await connectKms(${JSON.stringify(server.path)});
    const opened = await kms.decryptWithDek(${JSON.stringify(KEY)}, Buffer.from(${JSON.stringify(SECRET)}));
    console.log(Buffer.from(opened).toString());
    await kms.close();`;
  const run = async (NODE_DEBUG: string) => {
    const env = { ...process.env, NODE_DEBUG };
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    const said = { stdout: '', stderr: '' };
    child.stdout.on('data', (chunk) => (said.stdout += chunk));
    child.stderr.on('data', (chunk) => (said.stderr += chunk));
    const [code] = await once(child, 'close');
    t.is(code, 0, said.stderr);
    t.is(said.stdout.trim(), SECRET);
    return said.stderr;
  };
  const logged = await run('progressdb-kms');
  t.regex(logged, /PROGRESSDB-KMS \d+: 1 hello 0 bytes \d+\.\d{3} ms ok\n/);
  t.regex(logged, /: 2 decrypt 27 bytes \d+\.\d{3} ms ok\n/);
  t.notRegex(logged, /plaintext/);
  t.is(await run(''), '');
});
