import test from 'ava';
import { Authority } from './authority.js';
import { PROTOCOLS, TlsGround } from './tls-ground.js';

const MANY = 'CN:app,DNS:App.Internal,URI:spiffe://domain/app,email:app@domain';

for (const protocol of PROTOCOLS) {
  test(`${protocol}: a certificate is known by each kind of name, and by those of an intermediate authority`, async (t) => {
    const ground = await TlsGround.create(t, { clientCertificates: MANY });
    await ground.start();
    const known = [
      await ground.client({ cn: 'app' }),
      await ground.client({ names: [{ type: 'dns', value: 'app.internal' }] }),
      await ground.client({ cn: 'x', names: [{ type: 'url', value: 'spiffe://domain/app' }], usage: 'client' }),
      await ground.client({ names: [{ type: 'email', value: 'app@domain' }] }),
      await (await ground.root.intermediate('Below')).issue({ cn: 'app' }),
    ];
    for (const one of known) t.is(await ground.outcome(protocol, one), 'OK');
  });

  test(`${protocol}: a certificate that is no longer, not yet, or nobody's is refused before anything is read`, async (t) => {
    const ground = await TlsGround.create(t, { clientCertificates: MANY });
    const { daemon } = await ground.start();
    const foreign = await Authority.create('Root');
    const hidden = { type: 'dns', value: 'a, URI:spiffe://domain/app, DNS:b' } as const;
    const refused = {
      expired: await ground.client({ cn: 'app', from: -2, until: -1 }),
      early: await ground.client({ cn: 'app', from: 1, until: 2 }),
      foreign: await foreign.issue({ cn: 'app' }),
      forServers: await ground.client({ cn: 'app', usage: 'server' }),
      unnamed: await ground.client({ cn: 'other', names: [{ type: 'dns', value: 'x.app.internal' }] }),
      inOtherKind: await ground.client({ cn: 'spiffe://domain/app', names: [{ type: 'dns', value: 'app' }] }),
      hidden: await ground.client({ names: [hidden] }),
      none: undefined,
    };
    for (const [name, one] of Object.entries(refused)) t.is(await ground.outcome(protocol, one), 'UNAUTHENTICATED', name);
    const { keys } = await daemon.kms.listKeys();
    t.is(keys.length, 0);
  });

  test(`${protocol}: a revoked certificate is refused, and everyone is when a list is missing or out of date`, async (t) => {
    const ground = await TlsGround.create(t, {}, { revoked: '' });
    const [good, bad] = [await ground.client({ cn: 'app' }), await ground.client({ cn: 'app' })];
    const below = await (await ground.root.intermediate('Below')).issue({ cn: 'app' });
    const server = await ground.root.issue({ names: [{ type: 'ip', value: '127.0.0.1' }] });
    const contents = { server, authorities: ground.root.pem };
    ground.write({ ...contents, revoked: await ground.root.revoke([bad.serial]) });
    const { daemon } = await ground.start();
    t.is(await ground.outcome(protocol, good), 'OK');
    t.is(await ground.outcome(protocol, bad), 'UNAUTHENTICATED');
    t.is(await ground.outcome(protocol, below), 'UNAUTHENTICATED', 'its own authority has no list');
    ground.write({ ...contents, revoked: await ground.root.revoke([], -1) });
    daemon.prepare(ground.resolve())();
    t.is(await ground.outcome(protocol, good), 'UNAUTHENTICATED', 'the list is out of date');
  });

  test(`${protocol}: a certificate has the roles of the lists that name it, and makes keys under its name`, async (t) => {
    const lists = { clientCertificates: 'CN:app', adminCertificates: 'CN:boss', auditorCertificates: 'CN:app,CN:eyes' };
    const ground = await TlsGround.create(t, lists);
    await ground.start();
    const app = await ground.connect(protocol, await ground.client({ cn: 'app' }));
    const { keyId } = await app.createDekForThread('t');
    t.is((await app.describeKey(keyId)).createdBy, 'cert:CN:app');
    await t.throwsAsync(app.getWrapped(keyId), { code: 'PERMISSION_DENIED' });
    const boss = await ground.connect(protocol, await ground.client({ cn: 'boss' }));
    t.is((await boss.getWrapped(keyId)).length, 60);
    const eyes = await ground.connect(protocol, await ground.client({ cn: 'eyes' }));
    t.is((await eyes.listKeys()).keys.length, 1);
    await t.throwsAsync(eyes.encryptWithDek(keyId, Buffer.from('x')), { code: 'PERMISSION_DENIED' });
  });

  test(`${protocol}: messages of every size come back as they were`, async (t) => {
    const ground = await TlsGround.create(t);
    await ground.start();
    const remote = await ground.connect(protocol, await ground.client({ cn: 'app' }));
    const { keyId } = await remote.createDekForThread('t');
    for (const size of [0, 1, 16_383, 16_384, 70_000, 700_000, 5_000_000]) {
      const data = Buffer.alloc(size, size % 251);
      const { ciphertext } = await remote.encryptWithDek(keyId, data);
      t.true(data.equals(await remote.decryptWithDek(keyId, ciphertext)), `${size}`);
    }
    const many = await Promise.all(Array.from({ length: 500 }, (_, n) => remote.encryptWithDek(keyId, Buffer.from(`${n}`))));
    const opened = await Promise.all(many.map(({ ciphertext }) => remote.decryptWithDek(keyId, ciphertext)));
    t.deepEqual(
      opened.map((bytes) => Buffer.from(bytes).toString()),
      many.map((_, n) => `${n}`),
    );
  });
}
