import test, { type ExecutionContext } from 'ava';
import type { Bar, EmbeddedSize, Results, ServerRate } from '../../bench/results.js';
import { SCALE } from './scale-results.js';

interface Plot {
  name: string;
  title: string;
  reading: string;
}

/** The benchmark is plain JavaScript, whose types the tests alone would need. */
const made = (path: string) => import(new URL(`../../bench/${path}`, import.meta.url).href);
const { page } = (await made('report/page.js')) as { page(results: Results, plots: Plot[]): string };
const { markdown } = (await made('report/markdown.js')) as {
  markdown(results: Results, more: { plots?: Plot[]; folder: string; notes?: string }): string;
};
const { drawPlots } = (await made('report/plots.js')) as {
  drawPlots(results: Results, svgOf: (spec: object) => Promise<string>): Promise<Plot[]>;
};
const { judge } = (await made('bars.js')) as { judge(results: Results): Bar[] };
const numbers = (await made('report/numbers.js')) as Record<string, (value: number) => string>;

const ratio = (value: number) => ({ ratio: value, low: value * 0.9, high: value * 1.1 });
const rate = (perSecond: number): ServerRate => ({ perSecond, serverCpuNs: 1e9 / perSecond });

function embeddedSize(size: number): EmbeddedSize {
  const variant = (operation: 'encrypt' | 'decrypt', ns: number) => ({
    ...{ operation, algorithm: 'AES-256-GCM', byClock: false, ns, cpuNs: ns },
    ...{ overFloor: ratio(ns / 400), cpuOverFloor: ratio(ns / 400), fasterThanNodeCrypto: ratio(7_000 / ns) },
  });
  const variants = {
    encryptInto: variant('encrypt', 480),
    encryptSync: variant('encrypt', 600),
    decryptSync: variant('decrypt', 610),
    'node:crypto': variant('encrypt', 7_000),
    'AWS Encryption SDK': variant('encrypt', 200_000),
  };
  return { size, turns: 5, floorNs: 400, openFloorNs: 390, variants };
}

const keyCount = (keys: number) => ({
  ...{ keys, cachedKeys: keys, residentBytes: 5e7, encryptNs: 300, decryptNs: 310, encryptByIdNs: 340, decryptByIdNs: 350 },
  ...{ encryptOverFloor: ratio(1.3), decryptOverFloor: ratio(1.3) },
});

const percentiles = { samples: 1000, p50: 12, p90: 20, p99: 90, p999: 400, max: 9000 };

const whole: Results = {
  at: '2030-01-02T03:04:05.000Z',
  quick: false,
  pinned: true,
  machine: { cpu: 'CPU <1> & "2"', cores: 2, memoryGiB: 24, os: 'Linux 6' },
  versions: { node: 'v20.1.0', openssl: '3.0.1', product: '0.1.0', fastify: '5.0.0' },
  embedded: { aadBytes: 32, sizes: [64, 1024, 65_536].map(embeddedSize) },
  keys: { size: 64, counts: [1, 100_000].map(keyCount) },
  daemon: {
    ...{ plaintextBytes: 1024, aadBytes: 32, turns: 3, httpShape: '16 x 16', fastifyShape: '16 x 16' },
    shapes: [
      { shape: '1 x 1', connections: 1, inFlight: 1, daemon: rate(18_000), echo: rate(20_000) },
      {
        ...{ shape: '1 x 256', connections: 1, inFlight: 256, daemon: rate(1_468_651), echo: rate(3_600_000) },
        ...{ http: rate(42_756), daemonOverEcho: ratio(0.39), daemonOverHttp: ratio(34), decryptOverEncrypt: ratio(0.98) },
      },
    ],
    sizes: [{ size: 64, inFlight: 256, encrypt: rate(2e6), decrypt: rate(2e6), echo: rate(4e6) }],
    httpSurface: { shape: '16 x 1', daemon: rate(38_000), http: rate(40_000), daemonOverHttp: ratio(0.95) },
    creates: [{ inFlight: 64, perSecond: 4_900 }],
  },
  latency: {
    plaintextBytes: 1024,
    open: [{ server: 'daemon', connections: 8, perSecond: 100_000, achieved: 99_000, ...percentiles }],
    oneCore: [{ server: 'daemon, node client', perSecond: 70_000, ...percentiles, p50: 13.4 }],
    twoCores: [{ server: 'echo', perSecond: 20_000, ...percentiles }],
  } as unknown as NonNullable<Results['latency']>,
  workers: { turns: 3, shapes: [{ shape: '8 x 64', one: rate(1.2e6), two: rate(1.8e6), twoOverOne: ratio(1.5) }] },
  client: { inFlight: 256, turns: 3, kms: { perSecond: 1e6, clientCpuNs: 600 }, kmsOverHttp: ratio(37) },
  audit: { turns: 3, inFlight: '1 x 256', modes: [{ name: 'off', ofOff: ratio(1), ...rate(1.4e6) }] },
  rotation: { keys: 20_000, createdPerSecond: 5_000, rotatedPerSecond: 3_000 },
  threads: {
    bodyBytes: 1024,
    messages: 20_000,
    ways: (['embedded', 'daemon'] as const).map((way) => ({
      ...{ way, backups: 'with', firstPerSecond: 20_000, perSecond: 24_000, peakBytes: 2e8 },
    })),
    long: { messages: 100_000, perSecond: 24_000, peakBytes: 2e8 },
  },
  nodes: ['v20.1.0', 'v24.2.0'].map((node) => ({
    ...{ node, openssl: '3.5.0', at256: rate(1.5e6), at8x64: rate(1.3e6) },
    embedded: [
      { size: 1024, floorNs: 200, encryptInto: ratio(1.2), encryptSync: ratio(1.6), nodeCrypto: ratio(18), encryptIntoNs: 240 },
    ],
  })),
  scale: SCALE,
  bars: [],
};
const PARTS = [
  'embedded',
  'keys',
  'daemon',
  'workers',
  'latency',
  'client',
  'audit',
  'rotation',
  'threads',
  'nodes',
  'scale',
] as const;

const without = (...parts: string[]) =>
  Object.fromEntries(Object.entries(whole).filter(([name]) => !parts.includes(name))) as unknown as Results;

/** Draws what it is given as text, so that a value that is none would be seen. */
const asText = async (spec: object) =>
  `<svg class="marks" width="1"><text>${JSON.stringify(spec).replaceAll('"', '')}</text></svg>`;

async function reportOf(results: Results) {
  const plots = await drawPlots(results, asText);
  return { plots, html: page(results, plots), text: markdown(results, { plots, folder: 'docs/benchmarks' }) };
}

/** What a browser would load, or run, for the page. */
const LOADING =
  /<(script|link|img|iframe|object|embed|base)\b|\b(src|srcset|data|xlink:href)=|href="(?!#)|@import|url\(|@font-face/i;
const BROKEN = /undefined|NaN|Infinity|\[object/;

test('the page loads nothing and runs nothing', async (t) => {
  const { html } = await reportOf(whole);
  t.notRegex(html, LOADING);
  for (const one of ['<script>', '<img src="https://a/b.png">', '<a href="https://a">', '@import "x.css"', 'url(x.woff)']) {
    t.regex(html.replace('</main>', `${one}</main>`), LOADING, `${one} would be found`);
  }
});

function isSound(t: ExecutionContext, { html, text }: { html: string; text: string }, what: string): void {
  t.notRegex(html.replace(/<style>[\s\S]*<\/style>/, ''), BROKEN, what);
  t.notRegex(text, BROKEN, what);
  t.true(html.includes('</html>') && html.includes('id="bars"'), what);
}

test('a report holds without any of its parts, and without all of them', async (t) => {
  const all = await reportOf(whole);
  isSound(t, all, 'whole');
  t.deepEqual(all.plots.map(({ name }) => name).sort(), [
    ...['daemon-sizes', 'fleet', 'keys', 'latency', 'nodes', 'ratios', 'scale-costs', 'scale-rates', 'sizes', 'throughput'],
  ]);
  for (const part of PARTS) isSound(t, await reportOf(without(part)), `without ${part}`);
  const none = await reportOf(without(...PARTS));
  isSound(t, none, 'without all');
  t.deepEqual(none.plots, []);
  t.false(none.text.includes('.png'), 'no plot is linked that was not drawn');
  t.true(judge(without(...PARTS)).every(({ met }) => met === undefined));
});

test('a report holds where the peers were measured without the product', async (t) => {
  const { embedded, daemon } = structuredClone(whole);
  for (const size of embedded!.sizes) {
    for (const name of ['encryptInto', 'encryptSync', 'decryptSync']) delete size.variants[name];
  }
  for (const shape of daemon!.shapes) {
    for (const name of ['daemon', 'daemonOverEcho', 'daemonOverHttp', 'decryptOverEncrypt'] as const) delete shape[name];
  }
  isSound(
    t,
    await reportOf({
      ...without('keys', 'workers', 'client', 'latency', 'audit', 'rotation', 'threads', 'nodes', 'scale'),
      embedded,
      daemon,
    } as Results),
    'peers',
  );
});

test('a bar that is missed is shown as missed, at the top and in its table', async (t) => {
  const { html, text } = await reportOf(whole);
  t.true(html.includes('daemon at 256 in flight, against node:http + JSON: 34.0x, bar ≥ 40.0x'));
  t.regex(
    html,
    /against node:http \+ JSON<\/td><td>≥ 40\.0x<\/td><td>34\.0x \(30\.6–37\.4\)<\/td><td class="no"><b>no<\/b><\/td>/,
  );
  t.true(text.includes('| daemon at 256 in flight, against node:http + JSON | ≥ 40.0x | 34.0x (30.6–37.4) | **no** | daemon |'));
  const better = structuredClone(whole);
  better.daemon!.shapes[1]!.daemonOverHttp = ratio(41);
  t.false((await reportOf(better)).html.includes('against node:http + JSON: 4'));
});

test('each bar is measured by the part that it names, and by no other', (t) => {
  const bars = judge(whole);
  t.deepEqual(
    [...new Set(bars.map(({ part }) => part))].filter((part) => !(PARTS as readonly string[]).includes(part)),
    [],
  );
  const measured = bars.filter(({ met }) => met !== undefined);
  t.true(measured.length > 15);
  for (const { what, part } of measured) {
    for (const gone of PARTS) {
      const { met } = judge(without(gone)).find((bar) => bar.what === what)!;
      t.is(met === undefined, gone === part, `${what} without ${gone}`);
    }
  }
});

test('a bar that was not measured says so', async (t) => {
  const { text } = await reportOf(without('nodes'));
  t.true(text.includes('| Node 24, daemon at 256 in flight, operations per second | ≥ 1,250,000/s | – | not measured | nodes |'));
  t.true(
    (await reportOf(whole)).text.includes(
      '| Node 24, daemon at 256 in flight, operations per second | ≥ 1,250,000/s | 1,500,000/s | yes | nodes |',
    ),
  );
});

test('the largest figures stand first, with what they are compared with', async (t) => {
  const { html } = await reportOf(whole);
  for (const [value, than] of [
    ['12x', 'the speed of node:crypto'],
    ['333x', 'the speed of the AWS Encryption SDK'],
    ['34x', 'the rate of node:http + JSON'],
    ['1.47 M/s', 'on one core'],
    ['37x', 'the rate of a node:http client'],
    ['13.4 µs', 'median round trip'],
  ]) {
    t.true(html.includes(`<b>${value}</b><strong>${than}</strong>`), `${value} ${than}`);
  }
});

test('text of the results does not become markup', async (t) => {
  const { html } = await reportOf(whole);
  t.true(html.includes('CPU &lt;1&gt; &amp; &quot;2&quot;'));
});

test('numbers are written as people read them', (t) => {
  const {
    large,
    rate: perSecond,
    micros,
    time,
    bytes,
    times,
    gigabytes,
    short,
  } = numbers as Record<string, (value: number) => string>;
  const written = (write: ((value: number) => string) | undefined, values: number[]) => values.map((value) => write!(value));
  t.deepEqual(written(large, [850, 1_000, 42_756, 999_900, 1_468_651]), ['850', '1 k', '42.8 k', '1 M', '1.47 M']);
  t.deepEqual(written(perSecond, [1_900_000]), ['1.9 M/s']);
  t.deepEqual(written(micros, [0.5, 4.7, 131.2, 1_523, 999.9, 2.5e6]), [
    '500 ns',
    '4.7 µs',
    '131 µs',
    '1.52 ms',
    '1 ms',
    '2.5 s',
  ]);
  t.deepEqual(written(time, [447.2, 6_865, 12_162, 1_060_102]), ['447 ns', '6,865 ns', '12.2 µs', '1.06 ms']);
  t.deepEqual(written(bytes, [64, 1024, 65_536, 1_048_576]), ['64 B', '1 KiB', '64 KiB', '1 MiB']);
  t.deepEqual(written(times, [0.392, 1.2, 10.97, 34.2, 361.4, 1_072]), ['0.39x', '1.2x', '11x', '34x', '361x', '1,072x']);
  t.deepEqual(written(gigabytes, [5.45, 0.19, 0.0000816]), ['5.45 GB/s', '190 MB/s', '81.6 kB/s']);
  t.deepEqual(written(short, [1.2, 11.04, 255.3, 1_468_651.4]), ['1.20', '11.0', '255', '1,468,651']);
});
