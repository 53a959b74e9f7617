// What gives first as keys and operations grow, in that order, each with the figure where it does.
import { DATABASE, fleetOf, keysIn, MOST_LINES, SECONDS_PER_DAY, storeOf } from '../../scale/model.js';
import { wrapped } from '../markdown.js';
import { count, rate, times } from '../numbers.js';
import { decimal, many, span } from './units.js';

const GIB = 2 ** 30;
/** A machine as one rents it. */
const MEMORY = 64 * GIB;

/** `[what gives, where, what to do]`. */
function giving(c, keys, operations) {
  const all = storeOf(c, keys);
  const cold = fleetOf(c, { keys, operations, hitShare: 0 });
  const warm = fleetOf(c, { keys, operations, hitShare: 1 });
  return [
    [
      'The disk, under the audit lines of data operations',
      `with \`grouped\` each key that is used in a tenth of a second has a line of its own, ${count(MOST_LINES)} a second at most: ${decimal(c.auditBytesPerSecond)} a second under random keys, ${decimal(c.auditBytesPerSecond * SECONDS_PER_DAY)} a day from one daemon, and ${decimal(warm.auditPerDay)} a day from ${count(warm.cores)} of them.`,
      'forward lines and take finished files away; divide keys by thread, so that one daemon sees fewer of them; `audit.data_operations: off` where the application keeps its own record.',
    ],
    [
      'The share that finds its key',
      `a miss costs ${times(c.missedNs / c.servedNs)} a hit (${count(c.missedNs)} against ${count(c.servedNs)} ns of a core), so ${many(operations)} a second take ${count(warm.cores)} cores, or ${count(cold.cores)} where none finds it.`,
      `route by thread, so that a daemon's keys are its own; raise \`cache.cached_keys\` and \`cache.arena_bytes\` (${count(c.cachedBytes)} bytes a key: ${decimal(1e6 * c.cachedBytes)} for a million) and RLIMIT_MEMLOCK with them.`,
    ],
    [
      'Durable creates of one process',
      `${rate(c.createsPerSecond)} with ${c.inFlight} in flight here, where lmdb-js alone does ${rate(c.floorPerSecond)}: groups wait for syncs one after the other. ${many(keys)} keys take ${span(all.createSeconds)}.`,
      'keep more creates in flight, which share the syncs; a disk with a write cache that survives power loss; several stores.',
    ],
    [
      'The hours after a restart',
      `the first encryption under each key reserves uses durably, ${rate(c.reservesPerSecond)} here: ${span(all.reserveSeconds)} of one store if all ${many(keys)} keys are wanted, and never for decryptions.`,
      `longer reserved blocks do not help the first one; restart daemons one after the other, and keep threads with theirs. A key that is encrypted under often reserves more each time, from ${count(all.usesPerReserve)} uses on.`,
    ],
    [
      'A store that is larger than memory',
      `a miss reads LMDB's pages in the turn of the event loop; from memory that is part of the cost above, from a disk all who are connected wait for it. A GiB holds the pages of ${many(keysIn(c, GIB))} keys, ${decimal(MEMORY)} those of ${many(keysIn(c, MEMORY))}.`,
      `one store for ${many(keysIn(c, MEMORY))} keys at most, each with a machine's memory; ${many(keys)} take ${count(Math.ceil(keys / keysIn(c, MEMORY)))} such stores.`,
    ],
    [
      'The time of a rotation',
      `${many(c.rotatedPerSecond)} keys a second here, while serving: ${span(1e7 / c.rotatedPerSecond)} for ten million, ${span(all.rotationSeconds)} for ${many(keys)} in one store. It is resumable, so that nothing is lost, but old and new KEK both open the store for as long.`,
      'several stores rotate at once, each with a keyring of its own; of one in PostgreSQL one daemon rotates, whatever the others do.',
    ],
    [
      'The wraps of one KEK',
      `a rotation wraps every key once: ${many(keys)} keys are ${(all.wrapShare * 100).toFixed(0)} % of the 2^31 wraps after which the next one is due.`,
      'several stores, before there are two billion keys in one.',
    ],
    [
      'PostgreSQL, with many daemons',
      `${DATABASE.connectionsEach} connections each: ${count(warm.connections)} for ${count(warm.cores)} daemons, beyond what one server takes without a pooler, which LISTEN cannot go through; every record write takes the one keyring row \`FOR SHARE\`; and a rotation notifies each daemon of each key.`,
      `fewer connections for each daemon (\`store.connections\`), a database for each group of threads, and LMDB where a machine can have its own keys. What misses is read from the database: ${many(cold.readsPerSecond)} a second, if nothing were cached, is no rate for one.`,
    ],
  ];
}

export function limitsOf(c, keys, operations) {
  return giving(c, keys, operations)
    .map(([what, where, then], i) =>
      wrapped(`${i + 1}. **${what}.** ${where[0].toUpperCase()}${where.slice(1)} *Then:* ${then}`).replaceAll('\n', '\n   '),
    )
    .join('\n');
}
