import test from 'ava';
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

for (const [what, name, value] of [
  ['in capital letters', { type: 'dns', value: 'app.internal' }, 'DNS:App.Internal'],
  [
    'that records have no room for',
    { type: 'url', value: `spiffe://example/${'a'.repeat(80)}` },
    `URI:spiffe://example/${'a'.repeat(80)}`,
  ],
] as const) {
  test(`a name ${what} narrows its certificate as any other`, async (t) => {
    const ground = await TlsGround.create(t, { clientCertificates: value, narrowed: `cert:${value} thread:chat/` });
    await ground.start();
    const remote = await ground.connect('kms+tls', await ground.client({ cn: 'x', names: [name] }));
    await remote.createDekForThread('chat/1');
    await t.throwsAsync(remote.createDekForThread('mail/1'), { code: 'PERMISSION_DENIED' });
  });
}

test('who is not a client cannot be narrowed to one', async (t) => {
  const ground = await TlsGround.create(t, { auditorCertificates: 'CN:eyes', narrowed: 'cert:CN:eyes own' });
  await ground.start();
  t.is(await ground.outcome('kms+tls', await ground.client({ cn: 'eyes' })), 'PERMISSION_DENIED');
});
