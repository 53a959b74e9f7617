import test from 'ava';
import type { DaemonFlags } from '../../dist/daemon/config.js';
import type { Wanted } from './authority.js';
import { PROTOCOLS, TlsGround } from './tls-ground.js';

const X = Buffer.from('x');

for (const protocol of PROTOCOLS) {
  test(`${protocol}: a certificate that is narrowed to threads makes and uses keys of those alone`, async (t) => {
    const ground = await TlsGround.create(t, { clientCertificates: 'CN:app', narrowed: 'cert:CN:app thread:chat/ thread:mail/' });
    const { daemon } = await ground.start();
    const other = await daemon.kms.createDekForThread('other/1');
    const chat = await daemon.kms.createDekForThread('chat/1');
    const remote = await ground.connect(protocol, await ground.client({ cn: 'app' }));
    await remote.createDekForThread('mail/1');
    await t.throwsAsync(remote.createDekForThread('chatter'), { code: 'PERMISSION_DENIED' });
    await t.throwsAsync(remote.createDek(), { code: 'PERMISSION_DENIED' });
    for (let round = 0; round < 2; round++) {
      await remote.encryptWithDek(chat.keyId, X);
      await t.throwsAsync(remote.encryptWithDek(other.keyId, X), { code: 'PERMISSION_DENIED' });
    }
  });
}

const LONG = 'URI:spiffe://cluster.example/ns/production/sa/the-service-of-the-longest-name';
const NAMED: Array<[title: string, flags: DaemonFlags, wanted: Wanted]> = [
  ['too long for a record', { clientCertificates: LONG, narrowed: `cert:${LONG} thread:chat/` }, uri(LONG.slice(4))],
  [
    'of a host, in another case',
    { clientCertificates: 'DNS:App.Internal', narrowed: 'cert:DNS:App.INTERNAL thread:chat/' },
    { names: [{ type: 'dns', value: 'app.internal' }] },
  ],
  [
    'the second of its names',
    { clientCertificates: 'URI:spiffe://a/b,CN:app', narrowed: 'cert:CN:app thread:chat/' },
    { cn: 'app', ...uri('spiffe://a/b') },
  ],
];
function uri(value: string): Wanted {
  return { names: [{ type: 'url', value }] };
}
for (const [title, flags, wanted] of NAMED) {
  test(`a certificate is narrowed by a name that is ${title}`, async (t) => {
    const ground = await TlsGround.create(t, flags);
    await ground.start();
    const remote = await ground.connect('kms+tls', await ground.client(wanted));
    await remote.createDekForThread('chat/1');
    await t.throwsAsync(remote.createDekForThread('other/1'), { code: 'PERMISSION_DENIED' });
  });
}

test('a certificate that nothing admits is not narrowed', async (t) => {
  await t.throwsAsync(TlsGround.create(t, { clientCertificates: 'CN:app', narrowed: 'cert:CN:ap own' }), {
    message: /cert:CN:ap is in none of auth\.client_certificates/,
  });
});

test('who is not a client cannot be narrowed to one', async (t) => {
  const ground = await TlsGround.create(t, { auditorCertificates: 'CN:eyes', narrowed: 'cert:CN:eyes own' });
  await ground.start();
  t.is(await ground.outcome('kms+tls', await ground.client({ cn: 'eyes' })), 'PERMISSION_DENIED');
});
