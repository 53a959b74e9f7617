// What a fleet needs, from what was measured on one machine. Each figure is a formula of constants: measured ones, those of the
// product's own limits, and a few that are assumed, which the document names as such.
import { FIRST_USES, KEK_DUE_WRAPS } from '../../dist/limits.js';

/** How full a core may be in the mean, so that a wave of requests finds it free. */
export const BUSY = 0.6;
/** Lines of data operations that one daemon writes in a second at most: 1,000 groups, ten times. */
export const MOST_LINES = 10_000;
export const SECONDS_PER_DAY = 86_400;
/** Of a durable create, in a row: LMDB's pages, its root, the lines of the audit log. */
export const SYNCS = 3;

/** Of the PostgreSQL store: docs/RUNBOOK.md. */
export const DATABASE = { connectionsEach: 11, beatsPerSecond: 4 };

/**
 * Bytes of a row by PostgreSQL's documented layout: its header and pointer, the columns beside the packed record, and how full the
 * pages are; entries of an index on random keys fill two thirds of it.
 */
const ROW = { overhead: 28, columns: 87, fill: 0.9, indexEntry: 52, indexFill: 0.67 };
const BACKUP_INDEXES = 2;

/** Of a key that is no longer cached and has uses left, in the native table: what is taken where too few were evicted to measure it. */
const REST_BYTES = 48;
const MANY_EVICTED = 500_000;

const held = ({ anonymous, locked }) => anonymous + locked;

/** By the largest LMDB store that was measured; undefined without one. */
export function constantsOf({ places, inFlight, cachedKeys, recordBytes }) {
  const largest = places.filter(({ store }) => store === 'lmdb').at(-1);
  if (largest === undefined) return undefined;
  const { keys, created, disk, decrypts, served, rotation } = largest;
  const cachedBytes = (held(decrypts.memory) - held(decrypts.memoryAtOpen)) / decrypts.memory.cachedKeys;
  const grown = held(created.memory) - held(created.memoryAtOpen);
  const evicted = keys - created.memory.cachedKeys;
  return {
    keys,
    inFlight,
    cachedKeys,
    packedBytes: recordBytes,
    storeBytes: disk.store.allocated / keys,
    rotatedBytes: rotation.disk.store.allocated / keys,
    createLineBytes: disk.audit.apparent / keys,
    processBytes: held(decrypts.memoryAtOpen),
    cachedBytes,
    restBytes: evicted < MANY_EVICTED ? REST_BYTES : (grown - cachedBytes * created.memory.cachedKeys) / evicted,
    createNs: created.cpuNs,
    createsPerSecond: created.perSecond,
    floorPerSecond: created.floorPerSecond,
    reservesPerSecond: decrypts.firstEncrypts.perSecond,
    warmNs: decrypts.warmNs,
    coldNs: decrypts.coldNs,
    servedNs: served.cached.serverCpuNs,
    missedNs: served.missNs ?? served.all.serverCpuNs,
    auditBytesPerSecond: served.auditBytesPerDecrypt * served.all.perSecond,
    rotateNs: rotation.alone.cpuNs,
    rotatedPerSecond: rotation.serving.perSecond,
  };
}

/** Of a row of `records`, and of what it leaves in `backups` until the rotation after the next: computed. */
export function rowBytes({ packedBytes }) {
  const index = ROW.indexEntry / ROW.indexFill;
  const row = (ROW.overhead + ROW.columns + packedBytes) / ROW.fill;
  return { record: row + index, backup: ROW.overhead + ROW.columns + packedBytes + BACKUP_INDEXES * index };
}

/** Cores of daemons for so many operations a second, of which `hitShare` find their key unwrapped, with the keys divided among them. */
export function fleetOf(c, { keys, operations, hitShare }) {
  const ns = hitShare * c.servedNs + (1 - hitShare) * c.missedNs;
  const perCore = (BUSY * 1e9) / ns;
  const cores = Math.ceil(operations / perCore);
  const keysEach = keys / cores;
  return {
    hitShare,
    ns,
    perCore,
    cores,
    keysEach,
    diskEach: keysEach * c.rotatedBytes,
    allCachedEach: c.processBytes + keysEach * c.cachedBytes,
    someCachedEach: c.processBytes + Math.min(keysEach, c.cachedKeys) * c.cachedBytes + keysEach * c.restBytes,
    rotationSeconds: keysEach / c.rotatedPerSecond,
    auditPerDay: cores * c.auditBytesPerSecond * SECONDS_PER_DAY,
    connections: cores * DATABASE.connectionsEach,
    beatsPerSecond: cores * DATABASE.beatsPerSecond,
    readsPerSecond: operations * (1 - hitShare),
  };
}

/** What all keys together take, however many daemons there are. */
export function storeOf(c, keys) {
  const { record, backup } = rowBytes(c);
  return {
    disk: keys * c.rotatedBytes,
    createLines: keys * c.createLineBytes,
    createSeconds: keys / c.createsPerSecond,
    rotationSeconds: keys / c.rotatedPerSecond,
    rows: keys,
    tableBytes: keys * record,
    backupBytes: keys * backup,
    wrapShare: keys / KEK_DUE_WRAPS,
    reserveSeconds: keys / c.reservesPerSecond,
    usesPerReserve: FIRST_USES,
  };
}

/** Keys whose records the kernel keeps in so much memory: beyond them a miss waits for the disk. */
export const keysIn = (c, bytes) => bytes / c.rotatedBytes;
