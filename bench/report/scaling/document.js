// docs/SCALING.md out of the results: what was measured, the model made of it, and what gives first.
import { BUSY, constantsOf, DATABASE, fleetOf, MOST_LINES, SECONDS_PER_DAY, SYNCS, storeOf } from '../../scale/model.js';
import { captioned, image, wrapped } from '../markdown.js';
import { count, rate, time } from '../numbers.js';
import { machineLines } from '../sections.js';
import { limitsOf } from './limits.js';
import { howMeasured, storeTables } from './tables.js';
import { decimal, many, span } from './units.js';

const KEYS = 1e9;
const OPERATIONS = 1e7;
const HIT_SHARES = [1, 0.99, 0.9, 0.5, 0];

function costTable(c) {
  const rows = [
    [
      'a record on disk',
      '`d`',
      `${count(c.storeBytes)} B`,
      `${count(c.packedBytes)} bytes, in pages that random ids leave partly empty`,
    ],
    [
      'with the backup of a rotation',
      '`d′`',
      `${count(c.rotatedBytes)} B`,
      'after one; the pages of those before are used again',
    ],
    ['its line in the audit log', '`a`', `${count(c.createLineBytes)} B`, 'for ever, unless old files are taken away'],
    ['a process', '`m₀`', decimal(c.processBytes), 'Node, the locked arena, the store open'],
    ['a key while it is cached', '`m`', `${count(c.cachedBytes)} B`, 'locked cell, table, the handle that JavaScript remembers'],
    ['a key evicted with uses left', '`u`', `${count(c.restBytes)} B`, 'until the process ends; at most: its heap grew as well'],
    ['a durable create', '`k`', time(c.createNs), `CPU of all threads; and ${SYNCS} syncs in a row for each group`],
    ['a decryption in the process', '`w`', time(c.warmNs), 'CPU, 64 bytes, key cached'],
    ['that brings its key from LMDB', '`w′`', time(c.coldNs), 'read, MAC, unwrap, entered, another evicted'],
    ['one through the daemon', '`s`', time(c.servedNs), 'its CPU, key cached'],
    ['that brings its key', '`s′`', time(c.missedNs), 'its CPU; of a chunk all at once'],
    ['a key rotated', '`r`', time(c.rotateNs), 'CPU of all threads: moved, backed up, read back, compared'],
  ];
  return { head: ['', '', 'measured', 'what it is'], rows };
}

const FORMULAS = [
  '- Disk: `n · d`, after a rotation `n · d′`; and `n · a` of audit log.',
  '- Memory of a process: `m₀ + min(n, cached) · m + (n − cached) · u`, the last term only of keys that this process made or encrypted under.',
  '- A create: at least `k` of CPU, and one of the `b` in flight when they share a group: `(k · b + syncs) / b`.',
  `- Operations of a core: \`1 / (h · s + (1 − h) · s′)\` with the share \`h\` that finds its key, of which the model plans ${BUSY * 100} %.`,
  '- Rotation of a store: `n / v`, with the rate `v` that was measured while serving; of `D` stores at once `n / (D · v)`.',
].join('\n');

function fleetTable(c) {
  const fleets = HIT_SHARES.map((hitShare) => fleetOf(c, { keys: KEYS, operations: OPERATIONS, hitShare }));
  const row = (name, cell) => [name, ...fleets.map(cell)];
  const rows = [
    row('CPU of the daemon for each', ({ ns }) => time(ns)),
    row(`operations of a core that is ${BUSY * 100} % busy`, ({ perCore }) => rate(perCore)),
    row('**cores of daemons**', ({ cores }) => count(cores)),
    row('keys of each, where they are divided', ({ keysEach }) => many(keysEach)),
    row('disk of each, rotated', ({ diskEach }) => decimal(diskEach)),
    row(`memory of each, ${many(c.cachedKeys)} keys cached, uses left of all others`, ({ someCachedEach }) =>
      decimal(someCachedEach),
    ),
    row('memory of each, all its keys cached', ({ allCachedEach }) => decimal(allCachedEach)),
    row('rotation of all, each its own', ({ rotationSeconds }) => span(rotationSeconds)),
    row('audit log of all in a day, grouped, at most', ({ auditPerDay }) => decimal(auditPerDay)),
    row('PostgreSQL instead: connections', ({ connections }) => count(connections)),
    row('beats a second', ({ beatsPerSecond }) => count(beatsPerSecond)),
    row('records read a second', ({ readsPerSecond }) => (readsPerSecond < 1 ? '0' : rate(readsPerSecond))),
  ];
  const heads = HIT_SHARES.map((share) => `${share * 100} % find their key`);
  return { caption: `${many(KEYS)} keys, ${many(OPERATIONS)} operations a second`, head: ['', ...heads], rows };
}

function storeLines(c) {
  const all = storeOf(c, KEYS);
  return [
    `- The records of ${many(KEYS)} keys take ${decimal(all.disk)} in LMDB files, their lines in the audit log ${decimal(all.createLines)}. One process at ${rate(c.createsPerSecond)} makes them in ${span(all.createSeconds)}.`,
    `- In PostgreSQL: ${many(all.rows)} rows, ${decimal(all.tableBytes)} with their index, and ${decimal(all.backupBytes)} of backups after a rotation, which besides leaves a dead copy of every row to be vacuumed. Computed from PostgreSQL's page layout.`,
    `- One leader rotates them in ${span(all.rotationSeconds)} at the rate of LMDB; a database across a network is slower. Every daemon is told of every key that moves.`,
    `- Each daemon has ${DATABASE.connectionsEach} connections at most and beats ${DATABASE.beatsPerSecond} times a second (\`stale_after\` of a second): traffic that does not grow with the keys.`,
  ].join('\n');
}

/** `plots` are those that lie in benchmarks/ beside it. */
export function scalingDocument(scale, plots) {
  const c = constantsOf(scale);
  const shown = (...names) => plots.filter(({ name }) => names.includes(name)).map((plot) => image('benchmarks', plot));
  const intro = [
    '# Scaling',
    wrapped(
      'What many keys cost, measured from a thousand keys to a million; a model made of it, for fleets that nobody here has; and what gives first. Written by `npm run bench:scale`, which measures all of it in a quarter of an hour; `npm run bench:scale -- --report FILE` writes it from results.',
    ),
    machineLines(scale).join('\n'),
    '## Measured',
    ...howMeasured(scale).map((text) => wrapped(text)),
    ...shown('scale-rates', 'scale-costs'),
    ...storeTables(scale).map(captioned),
  ];
  const model = c && [
    '## The model',
    wrapped(
      `Of the LMDB store with ${count(c.keys)} keys, the largest that was measured. Costs for each key do not depend on how many there are, but for the depth of a tree, which grows by a level for some fifty times the keys; what does depend on it is told below.`,
    ),
    captioned(costTable(c)),
    FORMULAS,
    '## A billion keys, ten million operations a second',
    wrapped(
      `Extrapolated: nothing of this section was measured. Operations are decryptions of 64 bytes through daemons of one core each, on machines like this one; a kilobyte takes some hundreds of nanoseconds more. Keys are divided among the daemons by their threads, so that each key is cached in one place.`,
    ),
    ...shown('fleet'),
    captioned(fleetTable(c)),
    storeLines(c),
    '## What gives first, and what to do then',
    limitsOf(c, KEYS, OPERATIONS),
    '## What this does not say',
    wrapped(
      `Rates are those of one virtual machine with ${scale.machine.cores} cores, whose disk others share: a sync takes what it takes there. Daemons were measured one at a time. The PostgreSQL figures are computed from its documents and ours, and no database was measured. A line of a decryption is shared by what happens under one key within a tenth of a second, up to ${count(MOST_LINES)} lines a second: with traffic that prefers some keys there are far fewer, and the daily volume above is the most (${count(SECONDS_PER_DAY)} seconds of random keys). No run had a million keys in the files store, or more keys than the machine's memory has room for.`,
    ),
  ];
  return `${[...intro, ...(model ?? [])].join('\n\n')}\n`;
}
