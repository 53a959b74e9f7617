import type { Results } from '../../bench/results.js';

type Scale = NonNullable<Results['scale']>;

const ratio = (one: number) => ({ ratio: one, low: one * 0.9, high: one * 1.1 });
const memory = { anonymous: 90e6, locked: 8e6, files: 60e6, cachedKeys: 1_000 };
const size = { apparent: 690e6, allocated: 691e6 };
const disk = { store: size, audit: size };
const start = { open: 0.1, toDecrypt: 0.2, fromSpawn: 0.5, close: 0.01 };
const server = {
  perSecond: 150_000,
  serverCpuNs: 6_000,
  serverBusy: 1,
  generatorBusy: 0.3,
  generatorLimited: false,
  failures: 0,
};

/** As a run of `npm run bench:scale` with one store would have left it. */
export const SCALE: Scale = {
  ...{ at: '2026-01-02T03:04:05.000Z', quick: false, pinned: true, cachedKeys: 100_000, hotKeys: 1_000, recordBytes: 361 },
  ...{ inFlight: 64, shape: '8 x 64', servedRate: 20_000, versions: {} },
  machine: { cpu: 'a CPU', cores: 2, memoryGiB: 8, kernel: 'Linux 6' },
  places: [
    {
      ...{ store: 'lmdb', keys: 1_000_000, disk },
      created: {
        ...{ perSecond: 41_000, cpuNs: 24_000, floorPerSecond: 60_000, overFloor: ratio(1.5) },
        ...{ memoryAtOpen: memory, memory, closeSeconds: 1 },
      },
      coldStart: { warm: start, cold: start, daemonSeconds: 0.8 },
      decrypts: { memoryAtOpen: memory, memory, warmNs: 400, coldNs: 4_000, firstEncrypts: { perSecond: 2_000, cpuNs: 90_000 } },
      served: {
        ...{ all: server, cached: server, cpuOverCached: ratio(8), missNs: 5_900 },
        ...{ auditBytesPerDecrypt: 110, peakBytes: 140e6, stopSeconds: 0.5 },
      },
      rotation: {
        alone: { keys: 1_000_000, seconds: 30, perSecond: 33_000, cpuNs: 17_000 },
        serving: {
          ...{ keys: 1_000_000, seconds: 40, perSecond: 25_000, peakBytes: 146e6 },
          served: { answers: 800_000, failures: 0, perSecond: 20_000, seconds: 40 },
        },
        ...{ disk, stopSeconds: 0.5 },
      },
    },
  ],
} as unknown as Scale;
