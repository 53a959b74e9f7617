import test, { type ExecutionContext } from 'ava';
import { connectKms, type KmsClient, type RequestFields } from '../../dist/client/index.js';
import { KmsError } from '../../dist/errors.js';
import { FakeHttp } from './fake-http.js';
import { echo, type FakeRequest, FakeServer, until } from './fake-server.js';

const KEY = `k_${'0'.repeat(32)}`;
const TOKEN = 'pk_hunter2-Hunter3';
const BASIC = Buffer.from(`kms:${TOKEN}`).toString('base64');
const DATA = Buffer.from('a plaintext that stays here');

async function withServer(run: (server: FakeServer) => Promise<void>): Promise<void> {
  const server = await new FakeServer().listen();
  try {
    await run(server);
  } finally {
    await server.remove();
  }
}

/** Until the client has noticed. */
async function breakConnection(t: ExecutionContext, server: FakeServer, kms: KmsClient): Promise<void> {
  server.onRequest = ({ socket }) => socket.destroy();
  await t.throwsAsync(kms.decrypt(DATA), { instanceOf: KmsError });
}

function greet(request: FakeRequest): void {
  if (request.op === 0) request.answer(1, 'kms', 'mlock', false);
  else echo(request);
}

test('a token is shown in the hello of each connection, and nothing is sent before it is taken', async (t) => {
  await withServer(async (server) => {
    server.onRequest = greet;
    const kms = await connectKms({ socket: server.path, token: TOKEN, reconnectMinMs: 1, reconnectMaxMs: 5 });
    t.deepEqual(
      server.requests.map(({ op, args }) => [op, ...args]),
      [
        [0, 1, TOKEN],
        [0, 1, TOKEN],
      ],
    );
    await breakConnection(t, server, kms);
    server.requests.length = 0;
    const held: FakeRequest[] = [];
    server.onRequest = (request) => (request.op === 0 ? held.push(request) : echo(request));
    const results = Promise.all([1, 2].map((n) => kms.decryptWithDek(KEY, Buffer.of(n), undefined, { deadlineMs: 60_000 })));
    await until(() => held.length === 1);
    await new Promise((turn) => setImmediate(turn));
    t.deepEqual(
      server.requests.map(({ op, args }) => [op, ...args]),
      [[0, 1, TOKEN]],
    );
    greet(held[0]!);
    t.deepEqual(
      (await results).map(([byte]) => byte),
      [1, 2],
    );
    t.is(held.length, 1, 'the token is shown once');
    await kms.close();
  });
});

test('a token that is not taken fails at once whoever waits, and is in no error', async (t) => {
  await withServer(async (server) => {
    for (const [code, name] of [
      [4, 'UNAUTHENTICATED'],
      [16, 'UNSUPPORTED'],
    ] as const) {
      server.onRequest = (request) => request.fail(code, 'no such token');
      const error = await t.throwsAsync(connectKms({ socket: server.path, token: TOKEN }), { instanceOf: KmsError });
      t.is(error?.code, name);
      t.false(`${error?.stack}`.includes(TOKEN));
    }
    server.onRequest = greet;
    const kms = await connectKms({ socket: server.path, token: TOKEN, reconnectMinMs: 1, reconnectMaxMs: 5 });
    await breakConnection(t, server, kms);
    server.onRequest = (request) => request.fail(4, 'it has expired');
    const error = await t.throwsAsync(kms.decryptWithDek(KEY, DATA, undefined, { deadlineMs: 60_000 }), { instanceOf: KmsError });
    t.deepEqual([error?.code, error?.message], ['UNAUTHENTICATED', 'not authenticated: it has expired']);
    server.onRequest = greet;
    t.deepEqual(Buffer.from(await kms.decryptWithDek(KEY, DATA)), DATA, 'a later request tries again');
    await kms.close();
  });
});

test('a server that never answers the token, or not in the protocol, is no connection', async (t) => {
  await withServer(async (server) => {
    server.onRequest = () => {};
    const slow = await t.throwsAsync(connectKms({ socket: server.path, token: TOKEN, connectTimeoutMs: 50 }), {
      instanceOf: KmsError,
    });
    t.deepEqual([slow?.code, /in 50 ms/.test(slow?.message ?? '')], ['STORE_UNAVAILABLE', true]);
    server.onRequest = ({ socket }) => socket.write(Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'));
    const strange = await t.throwsAsync(connectKms({ socket: server.path, token: TOKEN }), { instanceOf: KmsError });
    t.regex(strange?.message ?? '', /not the protocol/);
    server.onRequest = ({ socket }) => socket.destroy();
    t.is(
      (await t.throwsAsync(connectKms({ socket: server.path, token: TOKEN }), { instanceOf: KmsError }))?.code,
      'STORE_UNAVAILABLE',
    );
  });
});

test('over HTTP an option becomes a bearer, the userinfo of an address Basic, as other clients send it', async (t) => {
  const fake = await FakeHttp.on(t);
  fake.onRequest = (response) => response.end('{"plaintext":""}');
  await (await fake.client(t, { token: TOKEN })).decrypt(DATA);
  await (await fake.client(t, { endpoint: `http://kms:${TOKEN}@127.0.0.1:${fake.port}/p` })).decrypt(DATA);
  t.deepEqual(
    fake.asked.map(({ headers }) => headers.authorization),
    [`Bearer ${TOKEN}`, `Basic ${BASIC}`],
  );
});

test('neither tokens nor content are in errors or in what is logged, and what is logged is there', async (t) => {
  const fake = await FakeHttp.on(t);
  const lines: Array<[RequestFields, string]> = [];
  const logger = { debug: (fields: RequestFields, message: string) => void lines.push([fields, message]) };
  const errors: unknown[] = [];
  const secrets = [TOKEN, BASIC, DATA.toString(), DATA.toString('base64')];
  for (const given of [{ token: TOKEN }, { endpoint: `http://kms:${TOKEN}@127.0.0.1:${fake.port}` }]) {
    const kms = await fake.client(t, { ...given, logger });
    fake.onRequest = (response) => response.writeHead(401).end('no');
    errors.push(await t.throwsAsync(kms.encrypt(DATA, DATA)));
    fake.onRequest = (response) => response.end(`{"ciphertext":"${DATA.toString('base64')}!","key_version":"1"}`);
    errors.push(await t.throwsAsync(kms.encrypt(DATA)));
    fake.onRequest = (response) => response.socket?.destroy();
    errors.push(await t.throwsAsync(kms.encryptMany(KEY, [DATA])));
    errors.push(await t.throwsAsync(kms.encrypt(DATA, undefined, { deadlineMs: 0 })));
  }
  const { asked } = fake;
  const said = [...errors.map((error) => `${(error as Error).stack} ${(error as Error).cause}`), JSON.stringify(lines)].join(
    '\n',
  );
  for (const secret of secrets) t.false(said.includes(secret), secret);
  const sent = asked.map(({ headers, body }) => `${headers.authorization} ${body}`).join('\n');
  for (const secret of [TOKEN, BASIC, DATA.toString('base64')]) t.true(sent.includes(secret), 'what was looked for was there');
  t.deepEqual(lines.map(([{ operation, outcome }]) => `${operation} ${outcome}`).slice(0, 5), [
    'healthz ok',
    'encrypt UNAUTHENTICATED',
    'encrypt INTERNAL',
    'encrypt_many STORE_UNAVAILABLE',
    'encrypt DEADLINE_EXCEEDED',
  ]);
  const logged = lines.map(([{ id }]) => id);
  t.true(
    asked.every(({ headers }) => logged.includes(String(headers['x-request-id']))),
    'by the id that the server sees',
  );
});
