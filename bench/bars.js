// The bars, as data: what is measured, what it must reach, and where in the results it stands.

const shape = (name) => (results) => results.daemon?.shapes?.find((entry) => entry.shape === name);
const audit = (name) => (results) => results.audit?.modes?.find((entry) => entry.name === name);
const AT_256 = shape('1 x 256');
const AT_8X64 = shape('8 x 64');

const node24 = (results) => results.nodes?.find(({ node }) => /^v?24\./.test(node));
const oneCore = (name) => (results) => results.latency?.oneCore?.find(({ server }) => server === name);

const migration = (name) => (results) =>
  results.threads?.ways.find(({ way, backups }) => way === name && backups === 'with')?.perSecond;

/** The store of a million keys. */
const million = (results) => results.scale?.places.find(({ store, keys }) => store === 'lmdb' && keys === 1_000_000);

/** Of the provider that made all keys, and of the daemon through random decrypts and a rotation while it served. */
function mostMemory({ created, served, rotation }) {
  const { anonymous, locked } = created.memory;
  return Math.max(anonymous + locked, served.peakBytes, rotation.serving.peakBytes) / 1e6;
}

const variants = (size, results) => results.embedded?.sizes.find((entry) => entry.size === size)?.variants ?? {};
const embedded = (size, name) => (results) => variants(size, results)[name];

/** How many times the speed of another form one has: the other's time over its own, in the medians of one run. */
function speed(size, name, than) {
  return (results) => {
    const { [name]: one, [than]: other } = variants(size, results);
    return one && other && other.ns / one.ns;
  };
}

/** `wished` bars do not fail a run. `value` gives a number or `{ratio, low, high}`, undefined when it was not measured by `part`. */
export const BARS = [
  {
    part: 'embedded',
    what: '`encryptInto` over the C++ floor, 64 B',
    most: 1.5,
    unit: 'x',
    wished: true,
    value: (r) => embedded(64, 'encryptInto')(r)?.overFloor,
  },
  {
    part: 'embedded',
    what: '`encryptInto` over the C++ floor, 1 KiB',
    most: 1.3,
    unit: 'x',
    value: (r) => embedded(1024, 'encryptInto')(r)?.overFloor,
  },
  {
    part: 'embedded',
    what: '`encryptInto` over the C++ floor, 64 KiB',
    most: 1.03,
    unit: 'x',
    wished: true,
    value: (r) => embedded(65_536, 'encryptInto')(r)?.overFloor,
  },
  {
    part: 'embedded',
    what: '`encryptSync` (fresh result) over the C++ floor, 64 B',
    most: 1.7,
    unit: 'x',
    value: (r) => embedded(64, 'encryptSync')(r)?.overFloor,
  },
  {
    part: 'embedded',
    what: '`encryptSync` (fresh result) over the C++ floor, 1 KiB',
    most: 1.55,
    unit: 'x',
    value: (r) => embedded(1024, 'encryptSync')(r)?.overFloor,
  },
  {
    part: 'embedded',
    what: '`encryptSync` (fresh result) over the C++ floor, 64 KiB',
    most: 1.3,
    unit: 'x',
    value: (r) => embedded(65_536, 'encryptSync')(r)?.overFloor,
  },
  {
    part: 'embedded',
    what: '`encryptSync` (fresh result) against node:crypto, 64 B',
    least: 16,
    unit: 'x',
    value: (r) => embedded(64, 'encryptSync')(r)?.fasterThanNodeCrypto,
  },
  {
    part: 'embedded',
    what: '`encryptSync` (fresh result) against node:crypto, 1 KiB',
    least: 10,
    unit: 'x',
    value: (r) => embedded(1024, 'encryptSync')(r)?.fasterThanNodeCrypto,
  },
  {
    part: 'embedded',
    what: '`encryptSync` (fresh result) against the AWS Encryption SDK, 1 KiB',
    least: 300,
    unit: 'x',
    value: (r) => speed(1024, 'encryptSync', 'AWS Encryption SDK')(r),
  },
  {
    part: 'embedded',
    what: '`decryptSync`, of the speed of `encryptSync`, 1 KiB',
    least: 0.95,
    unit: 'x',
    value: (r) => speed(1024, 'decryptSync', 'encryptSync')(r),
  },
  {
    part: 'daemon',
    what: 'daemon at 256 in flight, of the C echo server',
    least: 0.18,
    unit: 'x',
    value: (r) => AT_256(r)?.daemonOverEcho,
  },
  {
    part: 'daemon',
    what: 'daemon at 256 in flight, against node:http + JSON',
    least: 40,
    unit: 'x',
    value: (r) => AT_256(r)?.daemonOverHttp,
  },
  {
    part: 'daemon',
    what: 'daemon at 256 in flight, operations per second',
    least: 850_000,
    unit: '/s',
    value: (r) => AT_256(r)?.daemon?.perSecond,
  },
  {
    part: 'daemon',
    what: 'daemon at 8 x 64 in flight, operations per second',
    least: 1_100_000,
    unit: '/s',
    value: (r) => AT_8X64(r)?.daemon?.perSecond,
  },
  {
    part: 'daemon',
    what: 'daemon, server CPU per operation at 256 in flight',
    most: 1000,
    unit: ' ns',
    value: (r) => AT_256(r)?.daemon?.serverCpuNs,
  },
  {
    part: 'daemon',
    what: 'daemon, decrypts of the rate of encrypts at 256 in flight',
    least: 0.95,
    unit: 'x',
    value: (r) => AT_256(r)?.decryptOverEncrypt,
  },
  {
    part: 'daemon',
    what: 'HTTP/JSON surface, 16 connections, requests per second',
    least: 12_000,
    unit: '/s',
    value: (r) => r.daemon?.httpSurface?.daemon?.perSecond,
  },
  {
    part: 'daemon',
    what: 'durable creates, 64 under way, files store',
    least: 4_000,
    unit: '/s',
    value: (r) => r.daemon?.creates?.find(({ inFlight }) => inFlight === 64)?.perSecond,
  },
  {
    part: 'workers',
    what: 'daemon with two workers at 8 x 64 in flight, of the same with one thread',
    least: 1.25,
    unit: 'x',
    value: (r) => r.workers?.shapes?.find(({ shape }) => shape === '8 x 64')?.twoOverOne,
  },
  {
    part: 'latency',
    what: 'round trip of one request, Node client and daemon on one core, p50',
    most: 14,
    unit: ' µs',
    value: (r) => oneCore('daemon, node client')(r)?.p50,
  },
  {
    part: 'client',
    what: 'Node client, a promise each, 256 in flight, against a node:http keep-alive client',
    least: 35,
    unit: 'x',
    value: (r) => r.client?.kmsOverHttp,
  },
  {
    part: 'client',
    what: 'Node client, a promise each, 256 in flight, operations per second',
    least: 850_000,
    unit: '/s',
    value: (r) => r.client?.kms?.perSecond,
  },
  {
    part: 'nodes',
    what: 'Node 24, daemon at 256 in flight, operations per second',
    least: 1_250_000,
    unit: '/s',
    value: (r) => node24(r)?.at256?.perSecond,
  },
  {
    part: 'nodes',
    what: 'Node 24, daemon at 8 x 64 in flight, operations per second',
    least: 2_000_000,
    unit: '/s',
    value: (r) => node24(r)?.at8x64?.perSecond,
  },
  {
    part: 'audit',
    what: 'daemon with grouped audit, of the same without',
    least: 0.9,
    unit: 'x',
    value: (r) => audit('grouped')(r)?.ofOff,
  },
  {
    part: 'audit',
    what: 'daemon with a line for each operation, of the same without',
    least: 0.3,
    unit: 'x',
    value: (r) => audit('each')(r)?.ofOff,
  },
  {
    part: 'rotation',
    what: 'rotation with the files store, keys per second',
    least: 2_000,
    unit: '/s',
    value: (r) => r.rotation?.rotatedPerSecond,
  },
  {
    part: 'threads',
    what: 'messages of a thread moved to a new key, with backups, embedded',
    least: 20_000,
    unit: '/s',
    value: migration('embedded'),
  },
  {
    part: 'threads',
    what: 'messages of a thread moved to a new key, with backups, through the daemon',
    least: 15_000,
    unit: '/s',
    value: migration('daemon'),
  },
  {
    part: 'scale',
    what: '1,000,000 keys in LMDB: durable creates, 64 under way, embedded with the audit log',
    least: 40_000,
    unit: '/s',
    value: (r) => million(r)?.created.perSecond,
  },
  {
    part: 'scale',
    what: '1,000,000 keys in LMDB: start of the process to the first decryption, nothing in the page cache',
    most: 1.5,
    unit: ' s',
    value: (r) => million(r)?.coldStart.cold.fromSpawn,
  },
  {
    part: 'scale',
    what: '1,000,000 keys in LMDB, 100,000 of them cached: random decrypts through the daemon',
    least: 120_000,
    unit: '/s',
    value: (r) => million(r)?.served.all.perSecond,
  },
  {
    part: 'scale',
    what: '1,000,000 keys in LMDB: the most anonymous and locked memory of one process, in any of these',
    most: 300,
    unit: ' MB',
    value: (r) => million(r) && mostMemory(million(r)),
  },
  {
    part: 'scale',
    what: '1,000,000 keys in LMDB: rotation of all of them while serving, keys per second',
    least: 20_000,
    unit: '/s',
    value: (r) => million(r)?.rotation.serving.perSecond,
  },
  {
    part: 'scale',
    what: '1,000,000 keys in LMDB: requests that failed during that rotation',
    most: 0,
    unit: '',
    value: (r) => million(r)?.rotation.serving.served.failures,
  },
];

/** Each bar with what was measured; `met` is undefined when it was not. */
export function judge(results) {
  return BARS.map(({ value, ...bar }) => {
    const found = value(results);
    const measured = typeof found === 'number' ? { ratio: found } : found;
    if (measured === undefined) return { ...bar, measured: undefined, met: undefined };
    const met = bar.most === undefined ? measured.ratio >= bar.least : measured.ratio <= bar.most;
    return { ...bar, measured, met };
  });
}
