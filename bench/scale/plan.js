// What is measured at which sizes, and for how long.

export const STORES = ['lmdb', 'files'];
/** Of the daemon, so that most keys of the largest store are never unwrapped when they are wanted. */
export const CACHED_KEYS = 100_000;
/** Durable creates under way. */
export const IN_FLIGHT = 64;
/** Of a packed record whose thread id has ten characters. */
export const RECORD_BYTES = 361;
/** Of the random decrypts through the daemon. */
export const SHAPE = [8, 64];
/** Keys that are certainly in the cache, and those under which the clients of a rotation encrypt. */
export const HOT_KEYS = 1_000;
/** Operations of the clients of a rotation, each second: a third of them encryptions. */
export const SERVED_RATE = 20_000;

const FULL = {
  sizes: [1_000, 10_000, 100_000, 1_000_000],
  /** As many creates between two blocks of the floor. */
  block: 25_000,
  leastBlocks: 8,
  coldStarts: 5,
  decryptBlocks: 15,
  firstEncrypts: 5_000,
  served: { turns: 5, warm: 0.2, seconds: 0.8 },
  heat: 2,
};
const QUICK = {
  ...FULL,
  sizes: [1_000, 10_000],
  block: 2_000,
  leastBlocks: 4,
  coldStarts: 2,
  decryptBlocks: 5,
  firstEncrypts: 1_000,
  served: { turns: 2, warm: 0.1, seconds: 0.3 },
  heat: 0.5,
};

/** A file for each record: 10^5 of them take a minute, and the disk's patience. */
const MOST_FILES = 100_000;

/** `keys`: the only size, where one was asked for. */
export function planOf({ quick, keys }) {
  const plan = quick ? QUICK : FULL;
  return keys === undefined ? plan : { ...plan, sizes: [keys] };
}

/** `{store, keys}` in the order in which they are measured. */
export function placesOf({ sizes }) {
  const places = STORES.flatMap((store) => sizes.map((keys) => ({ store, keys })));
  return places.filter(({ store, keys }) => store !== 'files' || keys <= MOST_FILES);
}
