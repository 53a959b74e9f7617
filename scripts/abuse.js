// Whether one who misbehaves takes the service from another: `npm run bench:abuse [-- --seconds 10 --rate 2000]`. An honest
// client is measured alone and beside slow connections, huge bodies and a flood, with the limits of rates on. As root the
// others are another user, as they would be; else they share the honest client's uid and only the flood is another identity.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { get } from 'node:http';
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

/** The daemon's histogram of decryptions, which nobody here asks for but the honest client: cumulative counts by seconds. */
function decryptions(text, surface) {
  const line = new RegExp(
    `^progressdb_kms_request_seconds_bucket\\{(?=[^}]*surface="${surface}")(?=[^}]*operation="decrypt")[^}]*\\} (\\d+)`,
  );
  return text.split('\n').flatMap((one) => {
    const count = line.exec(one)?.[1];
    return count === undefined
      ? []
      : [{ bound: Number(/le="([^"]+)"/.exec(one)[1].replace('+Inf', 'Infinity')), count: Number(count) }];
  });
}

/** As Prometheus' histogram_quantile, of what came between two scrapes: microseconds. */
function quantile(before, after, share) {
  const counts = after.map(({ bound, count }, index) => ({ bound, count: count - (before[index]?.count ?? 0) }));
  const wanted = share * counts.at(-1).count;
  const index = counts.findIndex(({ count }) => count >= wanted);
  const below = index === 0 ? { bound: 0, count: 0 } : counts[index - 1];
  const { bound, count } = counts[index];
  if (bound === Number.POSITIVE_INFINITY) return below.bound * 1e6;
  return (below.bound + ((bound - below.bound) * (wanted - below.count)) / (count - below.count)) * 1e6;
}

/** The honest client: it asks one after the other, by both protocols in turn. */
class Honest {
  constructor(socket, binary, http, keyId, ciphertext) {
    Object.assign(this, { socket, ways: [binary, http], keyId, ciphertext });
  }

  /** What the daemon's own clock says of the time inside it. */
  async scrape() {
    const [text] = await new Promise((resolve, reject) => {
      get({ socketPath: this.socket, path: '/metrics' }, (response) =>
        resolve(
          response
            .setEncoding('utf8')
            .toArray()
            .then((all) => [all.join('')]),
        ),
      ).on('error', reject);
    });
    return { binary: decryptions(text, 'binary'), http: decryptions(text, 'http') };
  }

  /** p99 in microseconds: at the client, by its clock, and inside the daemon, by both protocols. */
  async figures(seconds) {
    const taken = [];
    const before = await this.scrape();
    const end = performance.now() + seconds * 1_000;
    for (let next = performance.now(), turn = 0; next < end; next += 1_000 / HONEST_PER_SECOND, turn++) {
      const wait = next - performance.now();
      if (wait > 0) await sleep(wait);
      const began = performance.now();
      await this.ways[turn % 2].decryptWithDek(this.keyId, this.ciphertext);
      if (turn % 2 === 0) taken.push((performance.now() - began) * 1_000);
    }
    taken.sort((a, b) => a - b);
    const after = await this.scrape();
    return {
      client: at(taken, 0.99),
      binary: quantile(before.binary, after.binary, 0.99),
      http: quantile(before.http, after.http, 0.99),
    };
  }
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

async function phase({ name, peers }, honest, settings, pid, seconds) {
  const before = rssMiB(pid);
  const stops = peers.map((peer) => startPeer(peer, settings));
  let peak = before;
  const sampler = setInterval(() => {
    peak = Math.max(peak, rssMiB(pid));
  }, 100);
  if (peers.length > 0) await sleep(2_000);
  const figures = await honest.figures(seconds);
  clearInterval(sampler);
  const told = [];
  for (const end of stops) told.push(await end());
  return { name, figures, before, peak, told };
}

function print(results, { rate, bytes }) {
  const [{ figures: idle }] = results;
  const row = (cells) => `| ${cells.join(' | ')} |`;
  const both = (figures, name) => `${Math.round(figures[name])} (${(figures[name] / idle[name]).toFixed(2)})`;
  console.log(`An honest client at ${HONEST_PER_SECOND}/s; ${rate}/s and ${bytes} bytes/s allowed to each identity.`);
  console.log('p99 in µs, and to idle: inside the daemon by its own histogram, and at the client.\n');
  console.log(row(['beside', 'inside, binary', 'inside, HTTP', 'at the client', 'RSS before, MiB', 'peak']));
  console.log(row(['---', '---:', '---:', '---:', '---:', '---:']));
  for (const { name, figures, before, peak } of results) {
    const times = ['binary', 'http', 'client'].map((one) => both(figures, one));
    console.log(row([name, ...times, ...[before, peak].map(Math.round)]));
  }
  console.log('');
  for (const { name, told } of results) for (const one of told) console.log(`${name}: ${JSON.stringify(one)}`);
  return results.every(({ figures }) => ['binary', 'http'].every((one) => figures[one] <= WORST_RATIO * idle[one]));
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
    const [binary, http] = [await connectKms({ socket }), await connectKms(`http+unix://${socket}`)];
    const { keyId } = await binary.createDek();
    const { ciphertext } = await binary.encryptWithDek(keyId, Buffer.alloc(200));
    const honest = new Honest(socket, binary, http, keyId, ciphertext);
    const { token } = await createToken(dataDir, { name: 'flood', roles: ['client'] });
    const settings = { port, token, key: keyId, uid: process.getuid() === 0 ? OTHER_UID : undefined };
    await honest.figures(2);
    const results = [];
    for (const one of PHASES) {
      process.stderr.write(`${one.name}\n`);
      results.push(await phase(one, honest, settings, daemon.pid, Number(values.seconds)));
      await sleep(2_000);
    }
    await Promise.all([binary.close(), http.close()]);
    if (!print(results, values)) process.exitCode = 1;
  } finally {
    await stop(daemon);
  }
}

main().catch((error) => {
  process.stderr.write(`abuse: ${error.stack}\n`);
  process.exitCode = 1;
});
