// The real daemon on a store that is there already.
import { randomInt } from 'node:crypto';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { startServer, stop } from '../processes.js';
import { ROOT } from '../programs.js';
import { CLI } from '../servers.js';
import { AAD, PLAINTEXT_BYTES, plaintextOf, SealedFile } from './sealed-file.js';

const { connectKms } = await import(pathToFileURL(join(ROOT, 'dist/client/index.js')).href);

/** A cell is 40 bytes; a tenth of the cells is not for cached keys. */
export const arenaFor = (keys) => Math.ceil((keys * 40 * 10) / 9) + 64 * 1024;

export function daemonCommand({ home, store, cachedKeys, socket }) {
  const flags = ['--data-dir', join(home, 'data'), '--master-key-file', join(home, 'master.key'), '--socket', socket];
  const cache = ['--cached-keys', cachedKeys, '--arena-bytes', Math.max(4 * 2 ** 20, arenaFor(cachedKeys)), '--key-idle-ms', 0];
  return [process.execPath, CLI, 'serve', '--no-init', '--store', store, ...flags, ...cache.map(String)];
}

/** Calls `use` with `{child, socket, kms}`; gives its result, and how long the daemon took to stop. */
export async function withDaemon(place, use) {
  const socket = join(place.home, 'kms.sock');
  rmSync(socket, { force: true });
  const child = await startServer(daemonCommand({ ...place, socket }), socket);
  let stopped = false;
  try {
    const kms = await connectKms(socket);
    const result = await use({ child, socket, kms });
    await kms.close();
    const begun = performance.now();
    await stop(child);
    stopped = true;
    return { ...result, stopSeconds: (performance.now() - begun) / 1000 };
  } finally {
    if (!stopped) await stop(child);
  }
}

/** The socket's name is there a moment before it listens. */
async function connectSoon(socket, starting) {
  for (;;) {
    while (!existsSync(socket)) await Promise.race([sleep(1), starting]);
    try {
      return await connectKms(socket);
    } catch (error) {
      if (!/ECONNREFUSED/.test(error.message)) throw error;
      await sleep(1);
    }
  }
}

/** Seconds from the start of a daemon's process to the first answer to a client: the decryption of a message for a random key. */
export async function coldDaemon(place) {
  const socket = join(place.home, 'kms.sock');
  rmSync(socket, { force: true });
  const file = new SealedFile(join(place.home, 'sealed'));
  const { index, keyId, sealed } = file.at(randomInt(file.entries));
  file.close();
  const begun = performance.now();
  const starting = startServer(daemonCommand({ ...place, socket }), socket);
  try {
    const kms = await connectSoon(socket, starting);
    const plaintext = await kms.decryptWithDek(keyId, sealed, AAD);
    const seconds = (performance.now() - begun) / 1000;
    if (!plaintextOf(index, Buffer.alloc(PLAINTEXT_BYTES)).equals(plaintext)) throw new Error('not what was encrypted');
    await kms.close();
    return seconds;
  } finally {
    await stop(await starting);
  }
}
