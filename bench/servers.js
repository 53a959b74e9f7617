// The servers that the daemon and client figures compare, all of them up for the whole run; an idle one costs nothing.
import { randomBytes } from 'node:crypto';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { SERVER_CORE, startServer, stop, writeMasterKey } from './processes.js';
import { BENCH, ROOT } from './programs.js';

export const PLAINTEXT_BYTES = 1024;
export const AAD_BYTES = 32;

export const CLI = join(ROOT, 'dist/cli/main.js');
const CLIENT = join(ROOT, 'dist/client/index.js');

export async function startEcho(dir, programs) {
  const socket = join(mkdtempSync(join(dir, 'echo-')), 'echo.sock');
  const child = await startServer([programs.echo, socket], socket);
  return { child, socket, keyId: `k_${'0'.repeat(32)}` };
}

/** A file with the body that the HTTP load generator posts. */
function writeBody(home, keyId) {
  const bodyFile = join(home, 'body.json');
  const field = (bytes) => randomBytes(bytes).toString('base64');
  writeFileSync(bodyFile, JSON.stringify({ key_id: keyId, plaintext: field(PLAINTEXT_BYTES), aad: field(AAD_BYTES) }));
  return bodyFile;
}

async function startPeer(dir, program) {
  const home = mkdtempSync(join(dir, 'http-'));
  const socket = join(home, 'http.sock');
  const bodyFile = writeBody(home, `k_${'0'.repeat(32)}`);
  const child = await startServer([process.execPath, join(BENCH, program), socket], socket);
  return { child, socket, bodyFile };
}

/** The node:http server. */
export const startHttp = (dir) => startPeer(dir, 'http-server.js');

/** The same with Fastify. */
export const startFastify = (dir) => startPeer(dir, 'fastify-server.js');

/**
 * Our daemon with a fresh store and one key, which it is shown to encrypt and decrypt with before anything is timed. One thread of it
 * serves unless `more` says otherwise: it has one core.
 */
export async function startDaemon(dir, more = [], node = process.execPath, core = SERVER_CORE) {
  const home = mkdtempSync(join(dir, 'daemon-'));
  const socket = join(home, 'kms.sock');
  const flags = ['--socket', socket, '--data-dir', join(home, 'data'), '--master-key-file', writeMasterKey(home)];
  const child = await startServer([node, CLI, 'serve', ...flags, '--workers', '1', ...more], socket, core);
  try {
    const keyId = await makeKey(socket);
    return { child, socket, keyId, bodyFile: writeBody(home, keyId) };
  } catch (error) {
    await stop(child);
    throw error;
  }
}

async function makeKey(socket) {
  const { connectKms } = await import(pathToFileURL(CLIENT).href);
  const kms = await connectKms(socket);
  try {
    const { keyId } = await kms.createDekForThread('bench');
    const plaintext = randomBytes(PLAINTEXT_BYTES);
    const aad = randomBytes(AAD_BYTES);
    const { ciphertext } = await kms.encryptWithDek(keyId, plaintext, aad);
    const opened = await kms.decryptWithDek(keyId, ciphertext, aad);
    if (!plaintext.equals(opened)) throw new Error('the daemon does not decrypt what it encrypted');
    return keyId;
  } finally {
    await kms.close();
  }
}

/** Starts those asked for, calls `use` with them, and stops them whatever happens. */
export async function withServers(starts, use) {
  const running = {};
  try {
    for (const [name, start] of Object.entries(starts)) running[name] = await start();
    return await use(running);
  } finally {
    await Promise.all(Object.values(running).map(({ child }) => stop(child)));
  }
}
