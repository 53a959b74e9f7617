import { chmodSync, chownSync, writeFileSync } from 'node:fs';
import { get } from 'node:https';
import { join } from 'node:path';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import test from 'ava';
import { Authority } from './authority.js';
import { configIn, scratch, start } from './running.js';
import { PROTOCOLS, TlsGround } from './tls-ground.js';

const DATA = Buffer.from('data');
/** At once, or at the next connection. */
const REFUSED = /no accepted client certificate|connection to the key service was lost/;

/** The common name that the daemon's certificate has now. */
function commonNameOf(port: number, ca: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const socket: TLSSocket = connectTls({ host: '127.0.0.1', port, ca }, () => {
      resolve(socket.getPeerCertificate().subject.CN);
      socket.destroy();
    });
    socket.on('error', reject);
  });
}

function serverOf(root: Authority, cn: string) {
  return root.issue({ cn, names: [{ type: 'ip', value: '127.0.0.1' }], usage: 'server' });
}

for (const protocol of PROTOCOLS) {
  test(`${protocol}: a new certificate is served to who comes next, and nobody loses his connection`, async (t) => {
    const ground = await TlsGround.create(t);
    const { daemon } = await ground.start();
    const remote = await ground.connect(protocol, await ground.client({ cn: 'app' }));
    const { keyId } = await remote.createDekForThread('t');
    t.is(await commonNameOf(ground.port, ground.root.pem), 'kms');
    ground.write({ server: await serverOf(ground.root, 'kms-2'), authorities: ground.root.pem });
    const before = daemon.connections();
    daemon.prepare(ground.resolve())();
    t.is(await commonNameOf(ground.port, ground.root.pem), 'kms-2');
    await remote.encryptWithDek(keyId, DATA);
    t.is(daemon.connections(), before);
  });

  test(`${protocol}: who is revoked loses his connection, and nobody else`, async (t) => {
    const ground = await TlsGround.create(t, { clientCertificates: 'CN:app,CN:bad' }, { revoked: '' });
    const contents = { server: await serverOf(ground.root, 'kms'), authorities: ground.root.pem };
    ground.write({ ...contents, revoked: await ground.root.revoke([]) });
    const { daemon } = await ground.start();
    const [app, bad] = [await ground.client({ cn: 'app' }), await ground.client({ cn: 'bad' })];
    const [good, revoked] = [await ground.connect(protocol, app), await ground.connect(protocol, bad)];
    const { keyId } = await good.createDekForThread('t');
    await revoked.encryptWithDek(keyId, DATA);
    ground.write({ ...contents, revoked: await ground.root.revoke([bad.serial]) });
    daemon.prepare(ground.resolve())();
    await t.throwsAsync(revoked.encryptWithDek(keyId, DATA), { message: REFUSED });
    await t.throwsAsync(revoked.encryptWithDek(keyId, DATA), { code: 'UNAUTHENTICATED' });
    await good.encryptWithDek(keyId, DATA);
  });

  test(`${protocol}: another authority, or another list of names, ends what rested on the one before`, async (t) => {
    const ground = await TlsGround.create(t, { clientCertificates: 'CN:app,CN:late' });
    const { daemon } = await ground.start();
    const next = await Authority.create('Next');
    const [app, late] = [await ground.client({ cn: 'app' }), await ground.client({ cn: 'late' })];
    t.is(await ground.outcome(protocol, late), 'OK');
    daemon.prepare(ground.resolve({ clientCertificates: 'CN:app' }))();
    t.is(await ground.outcome(protocol, late), 'UNAUTHENTICATED');
    t.is(await ground.outcome(protocol, app), 'OK');
    ground.write({ server: await serverOf(ground.root, 'kms'), authorities: next.pem });
    daemon.prepare(ground.resolve())();
    t.is(await ground.outcome(protocol, app), 'UNAUTHENTICATED');
    t.is(await ground.outcome(protocol, await next.issue({ cn: 'app' })), 'OK');
  });
}

// Alone, because it sets the clock of the whole process.
test.serial('a certificate that expires ends its connection', async (t) => {
  const ground = await TlsGround.create(t);
  const { daemon } = await ground.start();
  const remote = await ground.connect('kms+tls', await ground.client({ cn: 'app' }));
  await remote.createDekForThread('t');
  t.is(daemon.connections(), 1);
  const { now } = Date;
  t.teardown(() => {
    Date.now = now;
  });
  Date.now = () => now() + 3_600_000;
  while (daemon.connections() > 0) await new Promise((resolve) => setTimeout(resolve, 50));
  await t.throwsAsync(remote.createDekForThread('t'), { message: REFUSED });
});

test('an auditor sees when the certificate and the revocation list run out, and the log warns of it', async (t) => {
  const lists = { clientCertificates: 'CN:app', auditorCertificates: 'CN:eyes' };
  const ground = await TlsGround.create(t, lists, { revoked: '' });
  const contents = { server: await serverOf(ground.root, 'kms'), authorities: ground.root.pem };
  ground.write({ ...contents, revoked: await ground.root.revoke([], 2) });
  const { daemon, events } = await ground.start();
  t.is(events.filter(({ level, event }) => event === 'tls_file' && level === 'warn').length, 2);
  const eyes = await ground.client({ cn: 'eyes' });
  const scrape = () =>
    new Promise<string>((resolve, reject) => {
      const tls = { ca: ground.root.pem, cert: eyes.cert, key: eyes.key };
      get({ host: '127.0.0.1', port: ground.port, path: '/metrics', agent: false, ...tls }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => resolve(Buffer.concat(chunks).toString()));
      }).on('error', reject);
    });
  const text = await scrape();
  for (const [file, hours] of [
    ['certificate', 1],
    ['revocation_list', 2],
  ] as const) {
    const [, seconds] =
      new RegExp(`^progressdb_kms_tls_expiry_timestamp_seconds\\{file="${file}"\\} (\\d+)`, 'm').exec(text) ?? [];
    t.true(Math.abs(Number(seconds) - Date.now() / 1_000 - hours * 3_600) < 600, file);
  }
  daemon.prepare({ ...ground.resolve(), tls: undefined })();
  t.regex(await scrape(), /^progressdb_kms_tls_expiry_timestamp_seconds/m, 'what is open goes on with what it has');
});

/** Files with which the daemon must not start, and the line that says why. */
const UNUSABLE: ReadonlyArray<readonly [what: string, break_: (directory: string) => void, line: RegExp]> = [
  ['no certificate', (d) => writeFileSync(join(d, 'cert.pem'), 'x'), /tls\.cert_file: .*cert\.pem holds no certificate in PEM/],
  ['no key', (d) => writeFileSync(join(d, 'key.pem'), ''), /tls\.key_file: .*key\.pem holds no private key/],
  ['a key that others read', (d) => chmodSync(join(d, 'key.pem'), 0o644), /tls\.key_file: .*is open to others: chmod o-rwx/],
  ['authorities that others write', (d) => chmodSync(join(d, 'ca.pem'), 0o622), /tls\.client_ca_file: .*chmod go-w/],
  [
    'an authority of another user’s making',
    (d) => chownSync(join(d, 'ca.pem'), 12_345, -1),
    /tls\.client_ca_file: .*belongs to uid 12345: chown/,
  ],
  ['no authority', (d) => writeFileSync(join(d, 'ca.pem'), '-----BEGIN'), /tls\.client_ca_file: .*holds no certificates/],
  ['no list', (d) => writeFileSync(join(d, 'crl.pem'), ''), /tls\.crl_file: .*holds no revocation lists/],
];
for (const [what, break_, line] of UNUSABLE) {
  test(`${what}: the daemon does not start, and a reload changes nothing`, async (t) => {
    const ground = await TlsGround.create(t, {}, { revoked: '' });
    const contents = { server: await serverOf(ground.root, 'kms'), authorities: ground.root.pem };
    ground.write({ ...contents, revoked: await ground.root.revoke([]) });
    const { daemon } = await ground.start();
    try {
      break_(ground.directory);
    } catch (error) {
      t.log('skipped: needs root to give a file away', error);
      t.pass();
      return;
    }
    t.throws(() => daemon.prepare(ground.resolve()), { message: line });
    t.is(await ground.outcome('kms+tls', await ground.client({ cn: 'app' })), 'OK');
    await daemon.stop();
    await t.throwsAsync(start(t, ground.resolve(), ground.directory), { message: line });
  });
}

test('a delta list, which would let in whoever was revoked before it, is refused', async (t) => {
  const ground = await TlsGround.create(t, {}, { revoked: '' });
  const contents = { server: await serverOf(ground.root, 'kms'), authorities: ground.root.pem };
  const app = await ground.client({ cn: 'app' });
  const [whole, delta] = [await ground.root.revoke([app.serial]), await ground.root.revoke([], 1, 'delta')];
  ground.write({ ...contents, revoked: whole });
  const { daemon } = await ground.start();
  for (const revoked of [whole + delta, delta + whole, delta]) {
    ground.write({ ...contents, revoked });
    t.throws(() => daemon.prepare(ground.resolve())(), { message: /tls\.crl_file: .*crl\.pem holds a delta list/ });
    t.is(await ground.outcome('https', app), 'UNAUTHENTICATED');
  }
});

test('a key that is not that of the certificate is refused', async (t) => {
  const ground = await TlsGround.create(t);
  const [one, other] = [await serverOf(ground.root, 'one'), await serverOf(ground.root, 'other')];
  ground.write({ server: { ...one, key: other.key }, authorities: ground.root.pem });
  await t.throwsAsync(ground.start(), { message: /key\.pem is not the key of .*cert\.pem/ });
});

test('beyond loopback the daemon does not start as long as nobody could be known there', async (t) => {
  const directory = scratch(t);
  const config = configIn(directory, { dev: true });
  const ground = await TlsGround.create(t, {}, { authorities: '' });
  const endpoints = [{ host: '0.0.0.0', port: 0, isTls: true as const }];
  await t.throwsAsync(start(t, { ...config, tls: ground.config.tls, endpoints }, directory), {
    code: 'INVALID_ARGUMENT',
    message: /https:\/\/0\.0\.0\.0:0: nobody beyond this machine is known: list certificates, or make a token first/,
  });
});
