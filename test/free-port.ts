import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';

/** Below those that Linux gives to whoever asks for any port: one of those may be somebody else's before it is listened on. */
const LEAST = 20_000;
const MOST = 32_000;

/** One that nobody is given by chance; whether it is free is seen by whoever listens on it. */
export function anyPort(): number {
  return randomInt(LEAST, MOST);
}

/** A port of 127.0.0.1 for a server that must be told a number. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = anyPort();
    const server = createServer();
    const isFree = await once(server.listen(port, '127.0.0.1'), 'listening').then(
      () => true,
      () => false,
    );
    await new Promise((closed) => server.close(closed));
    if (isFree) return port;
  }
}
