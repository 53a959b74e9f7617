// What many keys cost behind the daemon: random decrypts over all of them, and a rotation of all while clients are served.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isGeneratorLimited } from '../loads.js';
import { DRIVER_CORE, onCore, runLoad, stopWorker } from '../processes.js';
import { median, pairedRatio } from '../statistics.js';
import { inTurns } from '../turns.js';
import { keysWorker } from './creating.js';
import { withDaemon } from './daemon-process.js';
import { auditBytes, diskOf } from './disk.js';
import { watchMemory } from './memory.js';
import { CACHED_KEYS, HOT_KEYS, SERVED_RATE, SHAPE } from './plan.js';

const ROTATION_DEADLINE_MS = 20 * 60_000;
/** Longer than any rotation takes: it is told when to end. */
const ENDLESS = 86_400;
/** How long clients are served before a rotation begins, and after it. */
const BESIDE_MS = 1_000;
/** The log takes what data operations did ten times a second. */
const LINES_WRITTEN_MS = 300;

const place = ({ store }, home) => ({ home, store, cachedKeys: CACHED_KEYS });

function scatter({ programs }, home, { socket, child }, { warm, seconds }, ...more) {
  return [programs.scatter, socket, join(home, 'sealed'), ...SHAPE, warm, seconds, child.pid, ...more].map(String);
}

function rateOf(results) {
  const middle = (field) => median(results.map((result) => result[field]));
  const busy = { serverBusy: middle('serverBusy'), generatorBusy: middle('generatorBusy') };
  return {
    perSecond: middle('perSecond'),
    serverCpuNs: middle('serverCpuNs'),
    ...busy,
    generatorLimited: isGeneratorLimited(busy),
    failures: results.reduce((all, { failures }) => all + failures, 0),
  };
}

/** Bytes of the audit log for each operation under a random key: how many share a line depends on how many there are in its time. */
async function auditBytesOf(home, loading) {
  const before = auditBytes(join(home, 'data'));
  const { answers } = await loading;
  await sleep(LINES_WRITTEN_MS);
  return (auditBytes(join(home, 'data')) - before) / answers;
}

/** Of an operation that does not find its key: of the random ones as many find theirs as have room. */
function missNsOf({ all, cached }, keys) {
  const hits = Math.min(1, CACHED_KEYS / keys);
  return hits === 1 ? undefined : (all.serverCpuNs - hits * cached.serverCpuNs) / (1 - hits);
}

/** Beside them decrypts under keys that are cached, by the same generator on the same daemon. */
export async function measureServed(run, plan, home, one) {
  const { keys, store } = one;
  return withDaemon(place(one, home), async (daemon) => {
    const memory = watchMemory(daemon.child.pid);
    const load = (block, ...more) => runLoad(scatter(run, home, daemon, block, ...more));
    await load({ warm: 0, seconds: plan.heat });
    const loads = {
      all: () => load(plan.served),
      cached: () => load(plan.served, '--first', HOT_KEYS),
    };
    const { all, cached } = await inTurns(plan.served.turns, loads, (turn) => run.say(`${store}, ${keys} keys served: ${turn}`));
    const auditBytesPerDecrypt = await auditBytesOf(home, load({ ...plan.served, warm: 0 }));
    const peakBytes = memory.peak();
    memory.stop();
    const cpu = (results) => results.map(({ serverCpuNs }) => serverCpuNs);
    const rates = { all: rateOf(all), cached: rateOf(cached), cpuOverCached: pairedRatio(cpu(all), cpu(cached)) };
    return { ...rates, missNs: missNsOf(rates, keys), auditBytesPerDecrypt, peakBytes };
  });
}

/** Clients that go on until they are told: `end()` gives what they saw. */
function startClients(run, home, daemon) {
  const command = scatter(run, home, daemon, { warm: 0, seconds: ENDLESS }, '--hot', HOT_KEYS, '--rate', SERVED_RATE);
  const [file, ...args] = onCore(DRIVER_CORE, command);
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  child.stdout.on('data', (bytes) => {
    said += bytes;
  });
  const ended = once(child, 'close');
  return {
    async end() {
      child.kill('SIGTERM');
      const [code] = await ended;
      if (code !== 0) throw new Error(`the clients of the rotation ended with ${code}`);
      const { answers, failures, perSecond, seconds } = JSON.parse(said);
      return { answers, failures, perSecond, seconds };
    },
  };
}

async function rotateWhileServing(run, home, daemon) {
  const memory = watchMemory(daemon.child.pid);
  const clients = startClients(run, home, daemon);
  let status;
  let seconds;
  try {
    await sleep(BESIDE_MS);
    const begun = performance.now();
    status = await daemon.kms.rotateKek({ wait: true, deadlineMs: ROTATION_DEADLINE_MS });
    seconds = (performance.now() - begun) / 1000;
    await sleep(BESIDE_MS);
  } catch (error) {
    await clients.end().catch(() => undefined);
    throw error;
  }
  const served = await clients.end();
  const peakBytes = memory.peak();
  memory.stop();
  if (status.state !== 'idle') throw new Error(`the rotation ended as ${JSON.stringify(status)}`);
  return { keys: status.done, seconds, perSecond: status.done / seconds, served, peakBytes };
}

async function rotateAlone(run, home, store) {
  const worker = await keysWorker(run, home, { store });
  try {
    const { keys, seconds, cpuSeconds } = await worker.ask({ rotate: true });
    await worker.ask({ close: true });
    return { keys, seconds, perSecond: keys / seconds, cpuNs: (cpuSeconds / keys) * 1e9 };
  } finally {
    await stopWorker(worker);
  }
}

/** The first alone in a process, with nothing else to do; the second by the daemon. */
export async function measureRotations(run, home, one) {
  const { keys, store } = one;
  run.say(`${store}, ${keys} keys: a rotation alone`);
  const alone = await rotateAlone(run, home, store);
  const disk = diskOf(join(home, 'data'));
  run.say(`${store}, ${keys} keys: a rotation while clients are served`);
  const { stopSeconds, ...serving } = await withDaemon(place(one, home), (daemon) => rotateWhileServing(run, home, daemon));
  for (const { keys: moved } of [alone, serving]) if (moved !== keys) throw new Error(`${moved} of ${keys} keys were moved`);
  return { alone, serving, disk, stopSeconds };
}
