// What a fleet needs, from what was measured on one machine. Every figure is a formula of constants of the results; the few that no
// run of ours measures are told as assumed.

/** Of lines in /etc/hosts' order of size: the rows of PostgreSQL are counted from its documented layout, and no run measured them. */
const ROW = { header: 24, pointer: 4, indexEntry: 56, columns: 60, fill: 0.9 };
/** A keyed lookup in a database of the same site and its answer, in a pipeline of them: an assumption. */
const DATABASE_ROUND_TRIP_US = 300;
/** How full a core may be in the mean, so that a wave of requests finds it free. */
const BUSY = 0.6;
/** Of docs/RUNBOOK.md: connections to the database by each daemon, and beats a second with `stale_after` of a second. */
const CONNECTIONS = 10 + 1;
const BEATS_PER_SECOND = 4;
const SECONDS_PER_DAY = 86_400;
/** Syncs in a row of a durable create: LMDB's pages, its root, the audit log's lines. */
export const SYNCS_PER_GROUP = 3;

const total = ({ anonymous, locked }) => anonymous + locked;

/** What one key and one operation cost, by the largest LMDB store that was measured. */
export function constantsOf({ places, inFlight, cachedKeys }) {
  const largest = places.filter(({ store }) => store === 'lmdb').at(-1);
  if (largest === undefined) return undefined;
  const { keys, created, disk, decrypts, served, rotation, coldStart } = largest;
  const { memory, memoryAtOpen } = decrypts;
  const made = total(created.memory) - total(created.memoryAtOpen);
  const cell = (total(memory) - total(memoryAtOpen)) / memory.cachedKeys;
  return {
    keys,
    inFlight,
    cachedKeys,
    recordBytes: disk.store.allocated / keys,
    rotatedBytes: rotation.disk.store.allocated / keys,
    auditBytes: disk.audit.apparent / keys,
    auditBytesPerDecrypt: served.auditBytesPerDecrypt,
    processBytes: total(memoryAtOpen),
    cachedBytes: cell,
    /** Of a key that is evicted with uses left. */
    restBytes: Math.max(0, made - cell * created.memory.cachedKeys) / keys,
    daemonPeakBytes: Math.max(served.peakBytes, rotation.serving.peakBytes),
    createNs: created.cpuNs,
    createsPerSecond: created.perSecond,
    warmNs: decrypts.warmNs,
    coldNs: decrypts.coldNs,
    servedWarmNs: served.cached.serverCpuNs,
    servedColdNs: served.missNs,
    rotateNs: rotation.alone.cpuNs,
    rotatedPerSecond: rotation.serving.perSecond,
    coldStartSeconds: coldStart.cold.toDecrypt,
  };
}

/** Nanoseconds of a core for one operation through the daemon of which this share finds its key. */
export const servedNs = (c, hitShare) => hitShare * c.servedWarmNs + (1 - hitShare) * c.servedColdNs;

/** Bytes of one row of `records` with its entry in the index: computed. */
export const rowBytes = (packedBytes) =>
  (ROW.header + ROW.pointer + ROW.columns + packedBytes) / ROW.fill + ROW.indexEntry / ROW.fill;

/** A fleet for so many keys and operations a second; `hitShare` of which find their keys unwrapped. */
export function fleetOf(c, { keys, operations, hitShare, cores = 1, createsPerSecond = 1_000, packedBytes = 336 }) {
  const ns = servedNs(c, hitShare);
  const perDaemon = (cores * BUSY * 1e9) / ns;
  const daemons = Math.ceil(operations / perDaemon);
  const keysEach = keys / daemons;
  const linesPerSecond = operations * (c.auditBytesPerDecrypt ?? 0);
  return {
    hitShare,
    ns,
    perDaemon,
    daemons,
    keysEach,
    diskEach: keysEach * c.rotatedBytes,
    disk: keys * c.rotatedBytes,
    memoryEach: c.processBytes + Math.min(keysEach, c.cachedKeys) * c.cachedBytes + keysEach * c.restBytes,
    memoryForAll: c.processBytes + keysEach * c.cachedBytes,
    rotationSeconds: keysEach / c.rotatedPerSecond,
    rotationSecondsByOne: keys / c.rotatedPerSecond,
    auditOfCreates: keys * c.auditBytes,
    auditPerDay: linesPerSecond * SECONDS_PER_DAY,
    auditPerDayEach: (linesPerSecond * SECONDS_PER_DAY) / daemons,
    rows: keys,
    rowBytes: rowBytes(packedBytes),
    database: keys * rowBytes(packedBytes),
    databaseConnections: daemons * CONNECTIONS,
    beatsPerSecond: daemons * BEATS_PER_SECOND,
    databaseReadsPerSecond: operations * (1 - hitShare),
    notices: keys * daemons,
    createDaemons: Math.ceil(createsPerSecond / c.createsPerSecond),
    missUs: DATABASE_ROUND_TRIP_US,
  };
}
