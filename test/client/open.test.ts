import test from 'ava';
import { HttpKms } from '../../dist/client/http/kms.js';
import { RemoteKms } from '../../dist/client/index.js';
import { createToken } from '../../dist/daemon/token-writer.js';
import { KmsError } from '../../dist/errors.js';
import { openKms } from '../../dist/open.js';
import { newPlace, served } from '../provider/subjects.js';

test('in external mode the environment names the key service by any address, the endpoint before the socket', async (t) => {
  const place = newPlace(t);
  const { daemon, socket } = await served(t, place);
  const port = daemon.ports[0]!;
  const { token } = await createToken(place.dataDir, { roles: ['client'] });
  const absent = '/nonexistent/kms.sock';
  const cases = [
    [{ PROGRESSDB_KMS_ENDPOINT: `127.0.0.1:${port}`, PROGRESSDB_KMS_SOCKET: absent }, HttpKms],
    [{ PROGRESSDB_KMS_ENDPOINT: `http://kms:${token}@127.0.0.1:${port}/prefix/`, PROGRESSDB_KMS_SOCKET: absent }, HttpKms],
    [{ PROGRESSDB_KMS_ENDPOINT: `http+unix://${socket}` }, HttpKms],
    [{ PROGRESSDB_KMS_ENDPOINT: socket, PROGRESSDB_KMS_SOCKET: absent }, RemoteKms],
    [{ PROGRESSDB_KMS_ENDPOINT: '', PROGRESSDB_KMS_SOCKET: `unix://${socket}` }, RemoteKms],
    [{ PROGRESSDB_KMS_SOCKET: `127.0.0.1:${port}` }, HttpKms],
  ] as const;
  for (const [env, kind] of cases) {
    const kms = await openKms({ PROGRESSDB_KMS_MODE: 'external', ...env });
    t.true(kms instanceof kind, JSON.stringify(env));
    t.deepEqual(Buffer.from(await kms.decrypt(await kms.encrypt(Buffer.from('hello')))).toString(), 'hello');
    await kms.close();
  }
  const wrong = openKms({ PROGRESSDB_KMS_MODE: 'external', PROGRESSDB_KMS_ENDPOINT: absent, PROGRESSDB_KMS_SOCKET: socket });
  t.is((await t.throwsAsync(wrong, { instanceOf: KmsError }))?.code, 'STORE_UNAVAILABLE', 'what is named is not replaced');
});
