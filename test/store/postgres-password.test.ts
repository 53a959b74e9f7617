import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import test from 'ava';
import { openPostgresStore } from '../../dist/store/postgres.js';

/** Asks whoever comes for a password in the clear, and returns what it was told. */
async function askedBy(userInfo: string): Promise<string> {
  let told = Buffer.alloc(0);
  const server = createServer((socket) => {
    socket.once('data', () => socket.write(Buffer.from([0x52, 0, 0, 0, 8, 0, 0, 0, 3])));
    socket.on('data', (bytes) => {
      told = Buffer.concat([told, bytes]);
      if (told.includes('p\0')) socket.end();
    });
    socket.on('error', () => {});
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  try {
    await openPostgresStore({ url: `postgres://${userInfo}@127.0.0.1:${port}/keys`, daemonId: 'd_1' });
  } catch {
    return told.toString('latin1');
  } finally {
    server.close();
  }
  throw new Error('it is no database');
}

test.serial('the password is the one of the URL, and none that the environment has for others', async (t) => {
  process.env['PGPASSWORD'] = 'of another';
  try {
    t.regex(await askedBy('kms:own'), /p\0\0\0.own\0/);
    t.notRegex(await askedBy('kms'), /of another/);
  } finally {
    delete process.env['PGPASSWORD'];
  }
});
