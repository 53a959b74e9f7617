// `npm run test:connections [-- --connections 100000 --workers 2]`: that many connections come to one daemon, say something or
// nothing, and go; afterwards it has as many descriptors open as before them.
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { ANYWHERE, startServer, stop } from '../bench/processes.js';
import { encodeRequest } from '../dist/wire/messages.js';

const CLI = new URL('../dist/cli/main.js', import.meta.url).pathname;
const AT_ONCE = 200;
const SETTLE_MS = 10_000;

const HELLO = encodeRequest(1, 0, [1, null]);
const CREATE = encodeRequest(2, 11, [null]);
/** What they say, and whether they wait for an answer to it. */
const WAYS = [
  [Buffer.concat([HELLO, CREATE]), true],
  [HELLO, true],
  [Buffer.from('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n'), true],
  // Gone in the middle of what they say, or of being handed over.
  [HELLO, false],
  [HELLO.subarray(0, 3), false],
  [Buffer.from('000000', 'hex'), false],
  [Buffer.from('00000000', 'hex'), true],
  [Buffer.from('GET / HTTP/1.1\r\n'), false],
  [Buffer.from('\r\n'), false],
  [Buffer.alloc(0), false],
];

async function come(socket, [bytes, waits]) {
  const peer = connect(socket);
  // A daemon that has too many at once ends some of them.
  peer.on('error', () => {});
  const closed = new Promise((resolve) => peer.on('close', resolve));
  await Promise.race([once(peer, 'connect'), closed]);
  if (bytes.length > 0) peer.write(bytes);
  if (waits) await Promise.race([new Promise((resolve) => peer.once('data', resolve)), closed]);
  peer.destroy();
  await closed;
}

const descriptorsOf = ({ pid }) => readdirSync(`/proc/${pid}/fd`).length;
const residentMiB = ({ pid }) =>
  Math.round(Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) / 1024);

async function round(socket, begun, many) {
  await Promise.all(Array.from({ length: many }, (_, at) => come(socket, WAYS[(begun + at) % WAYS.length])));
}

/** Waits for the last of them to be closed. */
async function settled(child, most) {
  for (let waited = 0; descriptorsOf(child) > most && waited < SETTLE_MS; waited += 50) await sleep(50);
  return descriptorsOf(child);
}

async function main() {
  const options = { connections: { type: 'string', default: '100000' }, workers: { type: 'string', default: '2' } };
  const { values } = parseArgs({ options });
  const total = Number(values.connections);
  const home = mkdtempSync(join(tmpdir(), 'kms-connections-'));
  const socket = join(home, 'kms.sock');
  const flags = ['--dev', '--socket', socket, '--workers', values.workers, '--log-file', join(home, 'log')];
  const child = await startServer([process.execPath, CLI, 'serve', ...flags], socket, ANYWHERE);
  try {
    // What each thread opens once, with its first connection.
    await round(socket, 0, AT_ONCE);
    await sleep(SETTLE_MS / 5);
    const before = descriptorsOf(child);
    for (let done = 0; done < total; done += AT_ONCE) {
      await round(socket, done, Math.min(AT_ONCE, total - done));
      if (done % 10_000 === 0)
        process.stderr.write(`\r${done} of ${total}, ${descriptorsOf(child)} descriptors, ${residentMiB(child)} MiB `);
    }
    const after = await settled(child, before);
    process.stderr.write('\n');
    console.log(
      `${total} connections on ${values.workers} threads: ${before} descriptors before, ${after} after; ${residentMiB(child)} MiB`,
    );
    console.log(`${after <= before ? 1 : 0} passed, ${after <= before ? 0 : 1} failed`);
    if (after > before) process.exitCode = 1;
  } finally {
    await stop(child);
    rmSync(home, { recursive: true, force: true });
  }
}

await main();
