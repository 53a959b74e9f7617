// Whether one who misbehaves takes the service from another: `npm run bench:abuse [-- --seconds 10 --rate 2000]`. An honest
// client is measured alone and beside slow connections, huge bodies and a flood, with the limits of rates on. As root the
// others are another user, as they would be; else they share the honest client's uid and only the flood is another identity.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { PINNED, startServer, stop, writeMasterKey } from '../bench/processes.js';
import { createToken } from '../dist/daemon/token-writer.js';
import { connectKms } from '../dist/index.js';

const ROOT = new URL('..', import.meta.url).pathname;
const OTHER_UID = 12345;
const HONEST_PER_SECOND = 400;
const WORST_RATIO = 3;
const PHASES = [
  { name: 'idle', peers: [] },
  { name: '2,000 slow connections', peers: [['loris', 2_000]] },
  { name: '100 MiB bodies', peers: [['bodies', 16]] },
  { name: 'one identity at full speed', peers: [['flood', 8]] },
  {
    name: 'all of these',
    peers: [
      ['loris', 2_000],
      ['bodies', 16],
      ['flood', 8],
    ],
  },
];

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

const at = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];

/**
 * The honest client's requests for so long, as `{p50, p99}` in microseconds. The only place that knows where the figures are
 * from: the client's clock, which also sees what the processes on its core take from it.
 */
async function figures(honest, keyId, seconds) {
  const data = Buffer.alloc(200);
  const taken = [];
  const end = performance.now() + seconds * 1_000;
  for (let next = performance.now(); next < end; next += 1_000 / HONEST_PER_SECOND) {
    const wait = next - performance.now();
    if (wait > 0) await sleep(wait);
    const began = performance.now();
    await honest.encryptWithDek(keyId, data);
    taken.push((performance.now() - began) * 1_000);
  }
  taken.sort((a, b) => a - b);
  return { p50: at(taken, 0.5), p99: at(taken, 0.99) };
}

function rssMiB(pid) {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) / 1024;
}

function startPeer([kind, count], settings) {
  const command = [process.execPath, join(ROOT, 'bench/abuse-peer.js'), kind, JSON.stringify({ ...settings, count })];
  // They get what the honest client leaves of its core: what is measured is the daemon and not the want of a core.
  const [file, ...args] = PINNED ? ['nice', '-n', '19', 'taskset', '-c', '1', ...command] : command;
  const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  let said = '';
  child.stdout.on('data', (bytes) => {
    said += bytes;
  });
  return async () => {
    child.stdin.end();
    await once(child, 'close');
    return { kind, ...JSON.parse(said || '{}') };
  };
}

async function phase({ name, peers }, honest, keyId, settings, pid, seconds) {
  const before = rssMiB(pid);
  const stops = peers.map((peer) => startPeer(peer, settings));
  let peak = before;
  const sampler = setInterval(() => {
    peak = Math.max(peak, rssMiB(pid));
  }, 100);
  if (peers.length > 0) await sleep(2_000);
  const { p50, p99 } = await figures(honest, keyId, seconds);
  clearInterval(sampler);
  const told = [];
  for (const end of stops) told.push(await end());
  return { name, p50, p99, before, peak, told };
}

function print(results, { rate, bytes }) {
  const [{ p99: idle }] = results;
  const row = (cells) => `| ${cells.join(' | ')} |`;
  console.log(
    `An honest client at ${HONEST_PER_SECOND}/s, ${rate}/s and ${bytes} bytes/s allowed to each identity; times at the client.\n`,
  );
  console.log(row(['beside', 'p50 µs', 'p99 µs', 'p99 to idle', 'RSS before, MiB', 'peak']));
  console.log(row(['---', '---:', '---:', '---:', '---:', '---:']));
  for (const { name, p50, p99, before, peak } of results) {
    console.log(row([name, ...[p50, p99].map(Math.round), (p99 / idle).toFixed(2), ...[before, peak].map(Math.round)]));
  }
  console.log('');
  for (const { name, told } of results) for (const one of told) console.log(`${name}: ${JSON.stringify(one)}`);
  return results.every(({ p99 }) => p99 <= WORST_RATIO * idle);
}

async function main() {
  const options = {
    seconds: { type: 'string', default: '10' },
    rate: { type: 'string', default: '2000' },
    bytes: { type: 'string', default: '20000000' },
  };
  const { values } = parseArgs({ options });
  const scratch = mkdtempSync(join(tmpdir(), 'kms-abuse-'));
  process.once('exit', () => rmSync(scratch, { recursive: true, force: true }));
  const [socket, dataDir, port] = [join(scratch, 'kms.sock'), join(scratch, 'data'), await freePort()];
  const command = [process.execPath, join(ROOT, 'dist/cli/main.js'), 'serve', '--socket', socket, '--data-dir', dataDir];
  command.push('--master-key-file', writeMasterKey(scratch), '--endpoint', `127.0.0.1:${port}`, '--allowed-uids', `${OTHER_UID}`);
  command.push('--requests-per-second', values.rate, '--bytes-per-second', values.bytes, '--log-level', 'error');
  const daemon = await startServer(command, socket);
  try {
    const honest = await connectKms({ socket });
    const { keyId } = await honest.createDek();
    const { token } = await createToken(dataDir, { name: 'flood', roles: ['client'] });
    const settings = { port, token, key: keyId, uid: process.getuid() === 0 ? OTHER_UID : undefined };
    await figures(honest, keyId, 2);
    const results = [];
    for (const one of PHASES) {
      process.stderr.write(`${one.name}\n`);
      results.push(await phase(one, honest, keyId, settings, daemon.pid, Number(values.seconds)));
      await sleep(2_000);
    }
    await honest.close();
    if (!print(results, values)) process.exitCode = 1;
  } finally {
    await stop(daemon);
  }
}

main().catch((error) => {
  process.stderr.write(`abuse: ${error.stack}\n`);
  process.exitCode = 1;
});
