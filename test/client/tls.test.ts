import { readFileSync } from 'node:fs';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import type tls from 'node:tls';
import test, { type ExecutionContext } from 'ava';
import { type ConnectOptions, connectKms } from '../../dist/client/index.js';
import { KmsError } from '../../dist/errors.js';
import { echo, FakeServer } from './fake-server.js';
import { Relay } from './relay.js';

const KEY = `k_${'0'.repeat(32)}`;
const TOKEN = 'pk_hunter2';

// Made for these tests, on no other machine's list: 'TEST ONLY' is their name. The leaf is of localhost and 127.0.0.1.
function pem(name: string): string {
  return readFileSync(new URL(`../../test/client/tls/TEST-ONLY-${name}`, import.meta.url), 'utf8');
}
const ca = pem('ca.pem');
const cert = pem('leaf.pem');
const key = pem('leaf.key');

/** A key service that speaks both protocols over TLS, each on a port of its own. */
async function secured(t: ExecutionContext, options: tls.TlsOptions = {}) {
  const seen = { bytes: 0, authorization: [] as Array<string | undefined> };
  const fake = await new FakeServer().listen();
  fake.onConnection = (socket) => socket.on('data', (chunk) => (seen.bytes += chunk.length));
  fake.onRequest = (request) => (request.op === 0 ? request.answer(1, 'kms', 'mlock', false) : echo(request));
  const relay = await Relay.to(fake.path, { cert, key, ...options });
  const server = https.createServer({ cert, key, ...options }, (request, response) => {
    seen.bytes++;
    seen.authorization.push(request.headers.authorization);
    request.resume();
    request.on('end', () => response.end(request.url === '/healthz' ? 'ok' : '{"plaintext":"Bw=="}'));
  });
  server.on('tlsClientError', () => {});
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  t.teardown(async () => {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
    await relay.stop();
    await fake.remove();
  });
  const { port } = server.address() as AddressInfo;
  return { seen, relay, binary: `127.0.0.1:${relay.port}`, http: `127.0.0.1:${port}` };
}

test('both protocols go over TLS to a server that proves its name', async (t) => {
  const { seen, binary, http } = await secured(t);
  for (const endpoint of [`kms+tls://${binary}`, `https://${http}`, `kms+tls://${binary.replace('127.0.0.1', 'localhost')}`]) {
    const kms = await connectKms({ endpoint, tls: { ca }, token: TOKEN });
    t.is((await kms.decrypt(Buffer.of(7)))[0], 7, endpoint);
    await kms.close();
  }
  t.deepEqual(seen.authorization, [`Bearer ${TOKEN}`, `Bearer ${TOKEN}`]);
});

test('large messages and many of them come whole through TLS, also after the connection broke', async (t) => {
  const { relay, binary } = await secured(t);
  const kms = await connectKms({ endpoint: `kms+tls://${binary}`, tls: { ca }, reconnectMinMs: 1, deadlineMs: 60_000 });
  t.teardown(() => kms.close());
  const large = Buffer.alloc(1024 * 1024, 9);
  t.is(Buffer.compare(await kms.decryptWithDek(KEY, large), large), 0);
  relay.cut();
  await t.throwsAsync(kms.decryptWithDek(KEY, large), { instanceOf: KmsError });
  const results = await Promise.all(Array.from({ length: 200 }, (_, n) => kms.decryptWithDek(KEY, Buffer.of(n, n))));
  t.true(results.every((result, n) => result.length === 2 && result[0] === n));
});

test('a server that does not prove who it is gets nothing, whatever the environment says', async (t) => {
  const { seen, binary, http } = await secured(t);
  const before = process.env['NODE_TLS_REJECT_UNAUTHORIZED'];
  process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0';
  t.teardown(() => {
    if (before === undefined) delete process.env['NODE_TLS_REJECT_UNAUTHORIZED'];
    else process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = before;
  });
  const wrong: Array<[NonNullable<ConnectOptions['tls']>, RegExp]> = [
    [{}, /UNABLE_TO_VERIFY|SELF_SIGNED|UNABLE_TO_GET_ISSUER/],
    [{ ca, servername: 'elsewhere.example' }, /ERR_TLS_CERT_ALTNAME_INVALID/],
  ];
  for (const [options, why] of wrong) {
    for (const endpoint of [`kms+tls://${binary}`, `https://${http}`]) {
      const error = await t.throwsAsync(connectKms({ endpoint, tls: options, token: TOKEN }), { instanceOf: KmsError });
      t.is(error?.code, 'PERMISSION_DENIED', endpoint);
      t.regex(error?.message ?? '', why, endpoint);
      t.false(`${error?.stack}`.includes(TOKEN));
    }
  }
  t.is(seen.bytes, 0);
});

test('a client shows its own certificate, and versions of TLS below its least are not spoken', async (t) => {
  const strict = await secured(t, { requestCert: true, rejectUnauthorized: true, ca, maxVersion: 'TLSv1.2' });
  for (const endpoint of [`kms+tls://${strict.binary}`, `https://${strict.http}`]) {
    t.is((await t.throwsAsync(connectKms({ endpoint, tls: { ca } }), { instanceOf: KmsError }))?.code, 'STORE_UNAVAILABLE');
    const kms = await connectKms({ endpoint, tls: { ca, cert, key } });
    t.is((await kms.decrypt(Buffer.of(7)))[0], 7);
    await kms.close();
    const newer = connectKms({ endpoint, tls: { ca, cert, key, minVersion: 'TLSv1.3' } });
    t.is((await t.throwsAsync(newer, { instanceOf: KmsError }))?.code, 'STORE_UNAVAILABLE');
  }
});

test('TLS is not spoken by halves: each side is told that the other speaks another protocol', async (t) => {
  const { binary } = await secured(t);
  const plain = await t.throwsAsync(connectKms({ endpoint: `kms://${binary}`, connectTimeoutMs: 2_000, deadlineMs: 2_000 }), {
    instanceOf: KmsError,
  });
  t.true(['STORE_UNAVAILABLE', 'DEADLINE_EXCEEDED'].includes(plain?.code ?? ''), plain?.message);
  const fake = await new FakeServer().listen();
  const relay = await Relay.to(fake.path);
  t.teardown(async () => {
    await relay.stop();
    await fake.remove();
  });
  const toPlain = connectKms({ endpoint: `kms+tls://127.0.0.1:${relay.port}`, tls: { ca }, connectTimeoutMs: 200 });
  t.is((await t.throwsAsync(toPlain, { instanceOf: KmsError }))?.code, 'STORE_UNAVAILABLE');
});
