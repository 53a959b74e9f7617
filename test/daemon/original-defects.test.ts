import { readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { resolveConfig } from '../../dist/daemon/config.js';
import type { Daemon } from '../../dist/daemon/main.js';
import { openKms } from '../../dist/open.js';
import { OP } from '../../dist/wire/frames.js';
import { Ground } from '../audit/verified.js';
import { newPair, secretOf } from '../audit/written.js';
import { filesIn, textOf } from '../house/sources.js';
import { place, served } from '../secrets/served.js';
import { askHttp, codeOf } from './http-peer.js';
import { Peer } from './peer.js';
import { configIn, running, scratch, start } from './running.js';
import { pretendToRunAs } from './stranger.js';

// What the service that this one replaces did wrong, by the numbers of its list, as far as a daemon can do it.

const PLAIN = [{ host: '127.0.0.1', port: 0 }];
const base64 = (text: string) => Buffer.from(text).toString('base64');

/** Three keys as their files have them. */
const [FIRST, SECOND, THIRD] = ['1', '2', '3'].map((digit) => `${digit}${'0123456789abcdef'.repeat(4).slice(1)}`) as [
  string,
  string,
  string,
];

interface Sealed {
  key_id: string;
  ciphertext: string;
}

/** A store with two keys and a message under each, and what opens it in turn under one master key after another. */
async function twoKeys(t: ExecutionContext) {
  const directory = scratch(t);
  const startWith = async (masterKey: string) => {
    writeFileSync(join(directory, 'master.key'), `${masterKey}\n`, { mode: 0o600 });
    return (await start(t, configIn(directory), directory)).daemon;
  };
  const daemon = await startWith(FIRST);
  const sealed: Sealed[] = [];
  for (const thread_id of ['a', 'b']) {
    const { key_id } = (await askHttp(daemon.socket, { path: '/create_dek_for_thread', body: { thread_id } })).json!;
    const body = { key_id, plaintext: base64(thread_id) };
    const { ciphertext } = (await askHttp(daemon.socket, { path: '/encrypt', body })).json!;
    sealed.push({ key_id, ciphertext } as Sealed);
  }
  const opensBoth = async ({ socket }: Daemon, about: string) => {
    const opened = await Promise.all(sealed.map((body) => askHttp(socket, { path: '/decrypt', body })));
    t.deepEqual(
      opened.map(({ json }) => json?.['plaintext']),
      [base64('a'), base64('b')],
      about,
    );
  };
  return { daemon, startWith, keyId: sealed[0]!.key_id, opensBoth };
}

test.serial(
  '2: a rewrap under a new KEK leaves its key and all others readable at once, and after a start with either',
  async (t) => {
    const { daemon, startWith, keyId, opensBoth } = await twoKeys(t);
    const answer = await askHttp(daemon.socket, { path: '/rewrap', body: { key_id: keyId, new_kek_hex: SECOND } });
    t.is(answer.status, 200, answer.text);
    await opensBoth(daemon, 'at once');
    await daemon.stop();
    for (const [masterKey, about] of [
      [FIRST, 'the old key'],
      [SECOND, 'the new key'],
      [FIRST, 'the old key again'],
    ] as const) {
      const restarted = await startWith(masterKey);
      await opensBoth(restarted, about);
      await restarted.stop();
    }
  },
);

test.serial('3: a rewrap works after any restart', async (t) => {
  const { daemon, startWith, keyId, opensBoth } = await twoKeys(t);
  const rewrap = async ({ socket }: Daemon, body: object) => {
    const answer = await askHttp(socket, { path: '/rewrap', body: { key_id: keyId, ...body } });
    t.is(answer.status, 200, answer.text);
  };
  await rewrap(daemon, { new_kek_hex: SECOND });
  await daemon.stop();
  for (const masterKey of [FIRST, SECOND]) {
    const restarted = await startWith(masterKey);
    await rewrap(restarted, { new_kek_hex: SECOND });
    await rewrap(restarted, {});
    await opensBoth(restarted, masterKey);
    await restarted.stop();
  }
});

test.serial('a rotation with a new key lets both open the store, until a start has used the new one', async (t) => {
  const { daemon, startWith, opensBoth } = await twoKeys(t);
  const answer = await askHttp(daemon.socket, { path: '/rotate_kek', body: { new_kek_hex: THIRD, wait: true } });
  t.is(answer.status, 200, answer.text);
  await daemon.stop();
  for (const masterKey of [FIRST, THIRD]) {
    const restarted = await startWith(masterKey);
    await opensBoth(restarted, masterKey);
    await restarted.stop();
  }
  await t.throwsAsync(startWith(FIRST), { code: 'UNAUTHENTICATED' });
});

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

const BODY = Buffer.alloc(60_000_000, 'a');

/**
 * The status of a request whose body is sent as long as the other side takes it. In one write: what comes is read before more of it
 * is tried, so that the answer is not lost with a connection that was closed meanwhile.
 */
function post(socketPath: string, bytes: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const asked = request({ socketPath, path: '/encrypt', method: 'POST', headers: { 'content-length': bytes } });
    asked.on('error', () => {});
    asked.on('response', (response) => {
      resolve(response.statusCode);
      response.resume();
      asked.destroy();
    });
    asked.end(BODY.subarray(0, bytes));
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

test.serial('10: what is done stands in a log that no KEK signs, and a line that is taken out or changed shows', async (t) => {
  const directory = scratch(t);
  const auditor = newPair('x25519');
  writeFileSync(join(directory, 'master.key'), `${FIRST}\n`, { mode: 0o600 });
  const { daemon } = await start(t, configIn(directory, { auditAuditorKey: auditor.publicKey }), directory);
  const { json } = await askHttp(daemon.socket, { path: '/create_dek_for_thread', body: { thread_id: 'a' } });
  await askHttp(daemon.socket, { path: '/rewrap', body: { key_id: json!['key_id'], new_kek_hex: SECOND } });
  await askHttp(daemon.socket, { path: '/rotate_kek', body: { wait: true } });
  await daemon.stop();
  const lines = readFileSync(join(directory, 'data', 'kms-audit.log'), 'latin1')
    .trimEnd()
    .split('\n');
  const events = lines.map((line) => JSON.parse(line).event as Record<string, unknown>);
  const types = events.map(({ type }) => type);
  for (const type of ['start', 'create_dek', 'slot', 'rewrap', 'rotate_kek', 'stop']) t.true(types.includes(type), type);
  for (const key of [FIRST, SECOND]) t.false(lines.join().includes(key.slice(1, 40)), 'no key stands in it');

  const ground = new Ground();
  t.teardown(() => ground.clear());
  const judged = { publicKey: String(events[0]!['signing_key']), secret: secretOf(auditor) };
  const verdict = (changed: string[]) => ground.independently([ground.file('kms-audit.log', `${changed.join('\n')}\n`)], judged);
  // By the keys of the epoch, which only the auditor has: the daemon's KEKs are random, and nobody's.
  t.like(await verdict(lines), { ok: true, lines: lines.length, sigsChecked: lines.length, fault: null });
  for (const [at, line] of lines.slice(0, -1).entries()) {
    const without = await verdict(lines.toSpliced(at, 1));
    t.false(without.ok, `without ${types[at]}`);
    const changed = await verdict(lines.with(at, line.replace('"uid:', '"uid:1')));
    t.false(changed.ok, `another actor of ${types[at]}`);
  }
});

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
