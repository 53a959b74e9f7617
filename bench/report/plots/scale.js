// What many keys cost, by how many there are: both stores side by side.
import { PALETTE } from '../contenders.js';
import { count, micros, rate } from '../numbers.js';
import { cachedKeyBytes, daemonPeak, megabytes } from '../scaling/tables.js';
import { decades, lineChart, measured } from './chart.js';

const STORES = {
  lmdb: { label: 'LMDB', colour: PALETTE.ours },
  files: { label: 'files', colour: PALETTE.peer },
};
const FLOOR = { label: 'lmdb-js alone', colour: PALETTE.floor, dash: [5, 3] };

const placesOf = (scale, store) => scale.places.filter((one) => one.store === store);
const byStore = (scale, value, names = {}) =>
  Object.entries(STORES).map(([store, look]) => ({
    ...look,
    label: names[store] ?? look.label,
    points: placesOf(scale, store).map((one) => [one.keys, value(one)]),
  }));

/** The names of a panel's lines reach into what the next one leaves for its axis. */
const ROOM_BESIDE = 40;

/** `panels`: `{heading, series, label}`. All have the same keys below. */
function panelsOf(scale, panels, { width, narrow }) {
  const x = { ...measured(scale.places.map(({ keys }) => keys)), label: 'count', title: 'keys' };
  const room = narrow ? 165 : 178;
  const own = narrow ? width - room : (width - panels.length * room + ROOM_BESIDE) / panels.length;
  const charts = panels.map(({ heading, series, label }) => {
    const shown = series.filter(({ points }) => points.length > 0);
    const y = {
      ...decades(
        shown.flatMap(({ points }) => points.map(([, value]) => value)),
        1.6,
      ),
      label,
    };
    return lineChart({ series: shown, x, y, width: own, height: narrow ? 200 : 250, heading });
  });
  return narrow
    ? { vconcat: charts }
    : { hconcat: charts, spacing: 18, resolve: { scale: { x: 'independent', y: 'independent' } } };
}

const largestOf = (scale) => placesOf(scale, 'lmdb').at(-1) ?? scale.places.at(-1);

/** What is done in a second. */
export const scaleRates = {
  name: 'scale-rates',
  title: 'Rates, by how many keys there are',
  subtitle: 'operations per second; the more the better',
  reading({ scale }) {
    const { keys, created, served, rotation } = largestOf(scale);
    return `With ${count(keys)} keys: ${rate(created.perSecond)} durable creates, ${rate(served.all.perSecond)} decryptions under random keys through the daemon, ${rate(rotation.serving.perSecond)} keys rotated while it serves others.`;
  },
  spec({ scale }, size) {
    if (!scale || scale.places.length === 0) return undefined;
    const floor = { ...FLOOR, points: placesOf(scale, 'lmdb').map(({ keys, created }) => [keys, created.floorPerSecond]) };
    const panels = [
      { heading: 'Durable creates', series: [...byStore(scale, ({ created }) => created.perSecond), floor], label: 'count' },
      { heading: 'Random decrypts, daemon', series: byStore(scale, ({ served }) => served.all.perSecond), label: 'count' },
      { heading: 'Rotation while serving', series: byStore(scale, ({ rotation }) => rotation.serving.perSecond), label: 'count' },
    ];
    return panelsOf(scale, panels, size);
  },
};

/** What is taken. */
export const scaleCosts = {
  name: 'scale-costs',
  title: 'Disk, memory and cold start, by how many keys there are',
  subtitle: 'the less the better',
  reading({ scale }) {
    const one = largestOf(scale);
    const { keys, disk, coldStart } = one;
    return `With ${count(keys)} keys each takes ${count(disk.store.allocated / keys)} bytes of disk, and ${count(cachedKeyBytes(one))} of memory while it is cached; the daemon holds ${megabytes(daemonPeak(one))} at most, and a process decrypts its first message ${micros(coldStart.cold.fromSpawn * 1e6)} after it was started.`;
  },
  spec({ scale }, size) {
    if (!scale || scale.places.length === 0) return undefined;
    const audit = {
      label: 'audit log',
      colour: PALETTE.floor,
      dash: [5, 3],
      points: placesOf(scale, 'lmdb').map(({ keys, disk }) => [keys, disk.audit.apparent / keys]),
    };
    const rotated = {
      label: 'LMDB, rotated',
      colour: PALETTE.oursToo,
      points: placesOf(scale, 'lmdb').map(({ keys, rotation }) => [keys, rotation.disk.store.allocated / keys]),
    };
    const panels = [
      {
        heading: 'Bytes on disk for each key',
        series: [...byStore(scale, ({ keys, disk }) => disk.store.allocated / keys), rotated, audit],
        label: 'decimal',
      },
      { heading: 'The daemon’s memory at most', series: byStore(scale, daemonPeak), label: 'decimal' },
      {
        heading: 'Cold start, from the spawn',
        series: byStore(scale, ({ coldStart }) => coldStart.cold.fromSpawn * 1e6),
        label: 'us',
      },
    ];
    return panelsOf(scale, panels, size);
  },
};
