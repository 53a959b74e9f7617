import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
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

test('in external mode a file of the environment holds the token to call with', async (t) => {
  const place = newPlace(t);
  const { daemon, socket } = await served(t, place);
  const { token, tokenId } = await createToken(place.dataDir, { roles: ['client'] });
  const file = join(place.directory, 'token');
  for (const endpoint of [
    `127.0.0.1:${daemon.ports[0]}`,
    `kms://127.0.0.1:${daemon.ports[0]}`,
    socket,
    `http+unix://${socket}`,
  ]) {
    const env = { PROGRESSDB_KMS_MODE: 'external', PROGRESSDB_KMS_ENDPOINT: endpoint, PROGRESSDB_KMS_TOKEN_FILE: file };
    const made = async () => {
      const kms = await openKms(env);
      t.teardown(() => kms.close());
      return await kms.createDek();
    };
    writeFileSync(file, `${token}\n`, { mode: 0o600 });
    const { createdBy } = await daemon.kms.describeKey((await made()).keyId);
    t.true(createdBy?.includes(tokenId), `${endpoint}: ${createdBy}`);
    writeFileSync(file, 'pk_hunter2\n');
    const error = await t.throwsAsync(made(), { code: 'UNAUTHENTICATED' });
    t.notRegex(String(error), /hunter2/);
  }
  const twice = { PROGRESSDB_KMS_ENDPOINT: `http://kms:${token}@127.0.0.1:${daemon.ports[0]}`, PROGRESSDB_KMS_TOKEN_FILE: file };
  await t.throwsAsync(openKms({ PROGRESSDB_KMS_MODE: 'external', ...twice }), {
    code: 'INVALID_ARGUMENT',
    message: /has one already/,
  });
});
