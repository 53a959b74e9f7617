import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { openKms } from '../../dist/open.js';
import { PROTOCOLS, TlsGround } from '../daemon/tls-ground.js';

async function environment(ground: TlsGround, endpoint: string): Promise<NodeJS.ProcessEnv> {
  const at = (name: string) => join(ground.directory, name);
  const { cert, key } = await ground.client({ cn: 'app' });
  writeFileSync(at('app.pem'), cert);
  writeFileSync(at('app.key'), key, { mode: 0o600 });
  return {
    PROGRESSDB_KMS_MODE: 'external',
    PROGRESSDB_KMS_ENDPOINT: endpoint,
    PROGRESSDB_KMS_CA_FILE: at('ca.pem'),
    PROGRESSDB_KMS_CERT_FILE: at('app.pem'),
    PROGRESSDB_KMS_KEY_FILE: at('app.key'),
  };
}

for (const protocol of PROTOCOLS) {
  test.serial(`openKms calls over ${protocol} as the one whom files of the environment show`, async (t) => {
    const ground = await TlsGround.create(t);
    await ground.start();
    const env = await environment(ground, `${protocol}://127.0.0.1:${ground.port}`);
    const kms = await openKms(env);
    t.teardown(() => kms.close());
    t.is(Buffer.from(await kms.decrypt(await kms.encrypt(Buffer.from('hello')))).toString(), 'hello');

    const outcome = async (changes: NodeJS.ProcessEnv) => {
      const opened = await openKms({ ...env, ...changes });
      t.teardown(() => opened.close());
      await opened.createDek();
    };
    const anonymous = { PROGRESSDB_KMS_CERT_FILE: '', PROGRESSDB_KMS_KEY_FILE: '' };
    await t.throwsAsync(outcome(anonymous), { code: 'UNAUTHENTICATED' });
    await t.throwsAsync(outcome({ PROGRESSDB_KMS_CA_FILE: '' }), { code: 'PERMISSION_DENIED', message: /does not prove/ });
    await t.throwsAsync(outcome({ PROGRESSDB_KMS_CERT_FILE: '' }), {
      code: 'INVALID_ARGUMENT',
      message: /PROGRESSDB_KMS_KEY_FILE: .*: its certificate is not named$/,
    });
    const onSocket = { PROGRESSDB_KMS_ENDPOINT: join(ground.directory, 's') };
    await t.throwsAsync(outcome(onSocket), { code: 'INVALID_ARGUMENT', message: /not one over TLS/ });
    chmodSync(join(ground.directory, 'app.key'), 0o604);
    await t.throwsAsync(outcome({}), { code: 'PERMISSION_DENIED', message: /PROGRESSDB_KMS_KEY_FILE: .*: chmod o-rwx / });
  });
}
