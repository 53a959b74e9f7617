import { readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import test from 'ava';
import { resolveConfig } from '../../dist/daemon/config.js';
import { openKms } from '../../dist/open.js';
import { OP } from '../../dist/wire/frames.js';
import { filesIn, textOf } from '../house/sources.js';
import { place, served } from '../secrets/served.js';
import { askHttp, codeOf } from './http-peer.js';
import { Peer } from './peer.js';
import { configIn, running, scratch, start } from './running.js';
import { pretendToRunAs } from './stranger.js';

// What the service that this one replaces did wrong, by the numbers of its list, as far as a daemon can do it.

const PLAIN = [{ host: '127.0.0.1', port: 0 }];
const base64 = (text: string) => Buffer.from(text).toString('base64');

test.serial('6: data encrypted for one message is not decrypted for another, or for none', async (t) => {
  const { daemon } = await running(t, { dev: true }, { endpoints: PLAIN });
  for (const to of [daemon.socket, daemon.ports[0]!]) {
    const sealed = await askHttp(to, { path: '/encrypt', body: { plaintext: base64('x'), aad: base64('message 1') } });
    const { ciphertext } = sealed.json!;
    const opened = (aad: object) => askHttp(to, { path: '/decrypt', body: { ciphertext, ...aad } });
    t.is((await opened({ aad: base64('message 1') })).json?.['plaintext'], base64('x'));
    for (const aad of [{ aad: base64('message 2') }, {}, { aad: null }]) t.is(codeOf(await opened(aad)), 'AUTHENTICATION_FAILED');
  }
});

test.serial('7: somebody whom nothing identifies gets nothing, and the door to him can be locked', async (t) => {
  pretendToRunAs(12_345);
  t.teardown(() => pretendToRunAs(undefined));
  const { daemon } = await running(t, { dev: true }, { endpoints: PLAIN });
  const to = daemon.ports[0]!;
  await t.throwsAsync(askHttp(to, { path: '/create_dek_for_thread', body: { thread_id: 't' } }), {
    message: /hang up|ECONNRESET|EPIPE/,
  });
  const peer = await Peer.connect(daemon.socket);
  await t.throwsAsync(peer.ask(OP.createDekForThread, 't'));
});

test.serial('7: a body of 60 MB is refused before it is there, and costs no memory', async (t) => {
  const at = place(t);
  const daemon = await served(t, at);
  const peak = () => Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${daemon.pid}/status`, 'utf8'))?.[1]) / 1024;
  if (process.platform !== 'linux') {
    t.log('skipped: the peak of a process is read from /proc');
    t.pass();
    return;
  }
  const before = peak();
  const statuses = await Promise.all(Array.from({ length: 8 }, () => post(at.socket, 60_000_000)));
  t.deepEqual(statuses, Array(8).fill(413));
  t.true(peak() - before < 64, `${before} MiB, then ${peak()} MiB`);
});

/** The status of a request whose body is sent as long as the other side takes it. */
function post(socketPath: string, bytes: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const asked = request({ socketPath, path: '/encrypt', method: 'POST', headers: { 'content-length': bytes } });
    asked.on('error', () => {});
    asked.on('response', (response) => {
      resolve(response.statusCode);
      response.resume();
      asked.destroy();
    });
    const piece = Buffer.alloc(1_000_000, 'a');
    const more = () => !asked.destroyed && asked.write(piece, () => setImmediate(more));
    more();
  });
}

test.serial('8: what is not base64 is refused, and not taken for the text itself', async (t) => {
  const { daemon } = await running(t);
  for (const plaintext of ['not base64', 'aGVsbG8', 'aGVsbG8=\n', 'aGVs_G8=', 'aGVsbG9=', '====']) {
    const { status, json } = await askHttp(daemon.socket, { path: '/encrypt', body: { plaintext } });
    t.is(status, 400, plaintext);
    t.is(json?.['ciphertext'], undefined);
  }
});

test.serial(
  '9: without a master key, and with a wrong one, the daemon does not start; one that is gone after a seal is not healthy',
  async (t) => {
    const directory = scratch(t);
    t.throws(() => resolveConfig({ dataDir: join(directory, 'data') }, {}), { message: /no master key is given/ });
    const key = join(directory, 'master.key');
    const write = (byte: string) => writeFileSync(key, `${byte}${'0123456789abcdef'.repeat(4).slice(1)}\n`, { mode: 0o600 });
    write('1');
    const first = await start(t, configIn(directory), directory);
    t.is((await askHttp(first.daemon.socket, { path: '/healthz' })).status, 200);
    await askHttp(first.daemon.socket, { path: '/v1/seal', body: {} });
    write('2');
    const unsealed = await askHttp(first.daemon.socket, { path: '/v1/unseal', body: {} });
    t.is(codeOf(unsealed), 'UNAUTHENTICATED');
    t.is((await askHttp(first.daemon.socket, { path: '/healthz' })).status, 503);
    await first.daemon.stop();
    await t.throwsAsync(start(t, configIn(directory), directory), { code: 'UNAUTHENTICATED' });
  },
);

test.serial('18: external mode asks for no master key', async (t) => {
  const { daemon } = await running(t);
  const kms = await openKms({ PROGRESSDB_KMS_MODE: 'external', PROGRESSDB_KMS_SOCKET: daemon.socket });
  t.teardown(() => kms.close());
  t.is(Buffer.from(await kms.decrypt(await kms.encrypt(Buffer.from('x')))).toString(), 'x');
});

test('19: no command of ours opens a directory of the system to others', (t) => {
  const texts = [...filesIn('docs', ''), ...filesIn('scripts', ''), 'README.md'];
  t.true(texts.length > 8);
  for (const path of texts) {
    t.notRegex(
      textOf(path),
      /(chmod|chown|install)[^\n]*\s\/(var|run|tmp|etc|usr|opt|home|var\/run|var\/lib|var\/log)\/?(\s|$)/m,
      path,
    );
    t.notRegex(textOf(path), /chmod[^\n]*\s(-R\s+)?0?[0-7]?[0-7][2367][2367]\b/, path);
  }
});
