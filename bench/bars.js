// The bars, as data: what is measured, what it must reach, and where in the results it stands.

const embedded = (size, name) => (results) => results.embedded?.sizes.find((entry) => entry.size === size)?.variants[name];
const shape = (name) => (results) => results.daemon?.shapes.find((entry) => entry.shape === name);
const audit = (name) => (results) => results.audit?.modes.find((entry) => entry.name === name);
const AT_256 = shape('1 x 256');

/** `wished` bars do not fail a run. `value` gives a number or `{ratio, low, high}`, undefined when it was not measured. */
export const BARS = [
  {
    what: '`encryptInto` over the C++ floor, 1 KiB',
    most: 1.3,
    unit: 'x',
    value: (r) => embedded(1024, 'encryptInto')(r)?.overFloor,
  },
  {
    what: '`encryptInto` over the C++ floor, 64 B',
    most: 1.5,
    unit: 'x',
    wished: true,
    value: (r) => embedded(64, 'encryptInto')(r)?.overFloor,
  },
  {
    what: '`encryptInto` over the C++ floor, 64 KiB',
    most: 1.03,
    unit: 'x',
    wished: true,
    value: (r) => embedded(65_536, 'encryptInto')(r)?.overFloor,
  },
  {
    what: '`encryptSync` (fresh result) against node:crypto, 1 KiB',
    least: 10,
    unit: 'x',
    value: (r) => embedded(1024, 'encryptSync')(r)?.fasterThanNodeCrypto,
  },
  { what: 'daemon at 256 in flight, of the C echo server', least: 0.18, unit: 'x', value: (r) => AT_256(r)?.daemonOverEcho },
  {
    what: 'daemon at 256 in flight, against node:http + JSON',
    least: 40,
    unit: 'x',
    value: (r) => AT_256(r)?.daemonOverHttp,
  },
  {
    what: 'daemon at 256 in flight, operations per second',
    least: 850_000,
    unit: '/s',
    value: (r) => AT_256(r)?.daemon?.perSecond,
  },
  {
    what: 'daemon, server CPU per operation at 256 in flight',
    most: 1000,
    unit: ' ns',
    value: (r) => AT_256(r)?.daemon?.serverCpuNs,
  },
  {
    what: 'HTTP/JSON surface, 16 connections, requests per second',
    least: 12_000,
    unit: '/s',
    value: (r) => r.daemon?.httpSurface.daemon?.perSecond,
  },
  { what: 'daemon with grouped audit, of the same without', least: 0.9, unit: 'x', value: (r) => audit('grouped')(r)?.ofOff },
  {
    what: 'daemon with a line for each operation, of the same without',
    least: 0.3,
    unit: 'x',
    value: (r) => audit('each')(r)?.ofOff,
  },
  {
    what: 'rotation with the files store, keys per second',
    least: 2_000,
    unit: '/s',
    value: (r) => r.rotation?.rotatedPerSecond,
  },
  {
    what: 'Node client, a promise each, 256 in flight, against a node:http keep-alive client',
    least: 35,
    unit: 'x',
    value: (r) => r.client?.kmsOverHttp,
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
