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

test('who is not a client cannot be narrowed to one', async (t) => {
  const ground = await TlsGround.create(t, { auditorCertificates: 'CN:eyes', narrowed: 'cert:CN:eyes own' });
  await ground.start();
  t.is(await ground.outcome('kms+tls', await ground.client({ cn: 'eyes' })), 'PERMISSION_DENIED');
});
