import { createServer as createHttp } from 'node:http';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { startDaemon } from '../../dist/daemon/main.js';
import { FORWARD_RETRY_MS } from '../../dist/limits.js';
import { binding } from '../../dist/native.js';
import { configIn, scratch } from '../daemon/running.js';

function isConnected(server: Server): Promise<boolean> {
  return new Promise((done, fail) => server.getConnections((error, count) => (error ? fail(error) : done(count > 0))));
}

test('after a start that failed nothing is forwarded any more', async (t) => {
  let posts = 0;
  const receiver = createHttp((_, answer) => {
    posts += 1;
    answer.writeHead(500).end();
  });
  const taken = createServer();
  for (const server of [receiver, taken]) {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    t.teardown(() => server.close());
  }
  const portOf = (server: { address(): unknown }) => (server.address() as AddressInfo).port;
  const directory = scratch(t);
  const auditForward = [{ kind: 'http', url: `http://127.0.0.1:${portOf(receiver)}/` }] as const;
  const flags = { endpoint: [`127.0.0.1:${portOf(taken)}`] };
  const config = configIn(directory, flags, { initialise: true, auditForward: [...auditForward] });
  binding.writeKeyFile(config.masterKeyFile as string);
  await t.throwsAsync(
    startDaemon(config, () => {}),
    { message: /is in use/ },
  );
  // What was under way at the end may come to its receiver after it, but not after the end of its connection.
  while (await isConnected(receiver)) await delay(10);
  const before = posts;
  t.true(before > 0);
  await delay(4 * FORWARD_RETRY_MS);
  t.is(posts, before);
});
