// What was measured of each store, by how many keys it had: for BENCHMARKS.md, its page and docs/SCALING.md alike.
import { count, large, micros, rate, spread, time } from '../numbers.js';

export const megabytes = (value) => `${(value / 1e6).toFixed(value < 1e7 ? 1 : 0)} MB`;
const seconds = (value) => micros(value * 1e6);
export const held = ({ anonymous, locked }) => anonymous + locked;

/** What one cached key adds to a process, of many. */
export function cachedKeyBytes({ decrypts: { memory, memoryAtOpen } }) {
  return (held(memory) - held(memoryAtOpen)) / memory.cachedKeys;
}

/** Below this the noise of a heap of megabytes is most of what a key seems to take. */
const MANY_CACHED = 50_000;

const perKey = (value, { keys }) => `${count(value / keys)} B`;

const ROWS = [
  ['**Durable creates**, 64 under way', ({ created }) => rate(created.perSecond)],
  ['CPU of all threads for each', ({ created }) => time(created.cpuNs)],
  ['lmdb-js alone, puts and syncs in groups of 64', ({ created }) => rate(created.floorPerSecond)],
  ['time over that (quartiles)', ({ created }) => spread(created.overFloor)],
  ['**On disk** for each key', (one) => perKey(one.disk.store.allocated, one)],
  ['the bytes of the files', (one) => perKey(one.disk.store.apparent, one)],
  ['in the audit log', (one) => perKey(one.disk.audit.apparent, one)],
  ['after a rotation, with its backups', (one) => perKey(one.rotation.disk.store.allocated, one)],
  ['**Memory**, anonymous and locked: a process that opened it', ({ decrypts }) => megabytes(held(decrypts.memoryAtOpen))],
  ['that made all keys', ({ created }) => megabytes(held(created.memory))],
  ['each cached key', (one) => (one.decrypts.memory.cachedKeys < MANY_CACHED ? '–' : `${count(cachedKeyBytes(one))} B`)],
  ['the daemon’s peak: decrypts, and a rotation while serving', (one) => megabytes(daemonPeak(one))],
  ['**Cold start**: open to first decryption', ({ coldStart }) => seconds(coldStart.warm.toDecrypt)],
  ['nothing of the files in the kernel’s memory', ({ coldStart }) => seconds(coldStart.cold.toDecrypt)],
  ['that from the start of the process', ({ coldStart }) => seconds(coldStart.cold.fromSpawn)],
  ['the daemon’s process to its first answer', ({ coldStart }) => seconds(coldStart.daemonSeconds)],
  ['**Decryption in the process**: key cached', ({ decrypts }) => time(decrypts.warmNs)],
  ['key brought from the store', ({ decrypts }) => time(decrypts.coldNs)],
  ['**First encryption** under a key in a process: uses are reserved', ({ decrypts }) => rate(decrypts.firstEncrypts.perSecond)],
  ['CPU of all threads for each', ({ decrypts }) => time(decrypts.firstEncrypts.cpuNs)],
  ['**Decryptions through the daemon**, random keys', ({ served }) => rate(served.all.perSecond)],
  ['the daemon’s CPU for each', ({ served }) => time(served.all.serverCpuNs)],
  ['the same, of cached keys', ({ served }) => `${rate(served.cached.perSecond)}, ${time(served.cached.serverCpuNs)}`],
  ['CPU over that (quartiles)', ({ served }) => spread(served.cpuOverCached)],
  ['audit log for each, grouped', ({ served }) => `${served.auditBytesPerDecrypt.toFixed(1)} B`],
  ['**Rotation** alone', ({ rotation }) => `${large(rotation.alone.perSecond)} keys/s`],
  ['CPU of all threads for each key', ({ rotation }) => time(rotation.alone.cpuNs)],
  ['while the daemon serves', ({ rotation }) => `${large(rotation.serving.perSecond)} keys/s`],
  ['requests served meanwhile', ({ rotation }) => count(rotation.serving.served.answers)],
  ['of these failed', ({ rotation }) => count(rotation.serving.served.failures)],
  ['**Close** after all were made', ({ created }) => seconds(created.closeSeconds)],
  ['the daemon’s stop after a rotation', ({ rotation }) => seconds(rotation.stopSeconds)],
];

export const daemonPeak = ({ served, rotation }) => Math.max(served.peakBytes, rotation.serving.peakBytes);

const NAMES = { lmdb: 'The LMDB store', files: 'The files store' };

export function storeTables({ places }) {
  const stores = [...new Set(places.map(({ store }) => store))];
  return stores.map((store) => {
    const own = places.filter((one) => one.store === store);
    const head = ['', ...own.map(({ keys }) => `${count(keys)} keys`)];
    return { caption: NAMES[store], head, rows: ROWS.map(([name, cell]) => [name, ...own.map(cell)]) };
  });
}

export function howMeasured({ inFlight, cachedKeys, hotKeys, shape, servedRate }) {
  return [
    `Keys are made one call each by an embedded provider with its audit log, ${inFlight} under way, in blocks; between them lmdb-js alone puts as many records of the same size under random names into a file of its own, opened the same way. Memory is \`RssAnon\` and \`VmLck\` of /proc/PID/status. A key counts as brought from the store where hardly any has room.`,
    `Through the daemon (audit grouped, cache of ${count(cachedKeys)} keys, ${shape} in flight) each request is the decryption of 64 bytes under a random one of all keys, every plaintext compared as a whole; where there are more than are cached the others are brought from the store, many at once. Cached are those under the same ${count(hotKeys)} keys. While it rotates, clients send ${count(servedRate)} requests a second whatever it answers: a third encrypts, a third decrypts what came of that, a third decrypts under random keys.`,
  ];
}
