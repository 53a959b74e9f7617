import { serverOf } from '../contenders.js';
import { bytes, count, gigabytes, micros, spread } from '../numbers.js';

/** A generator that had no time left tells only that the server is at least so fast. */
const rate = (figures) => (figures ? `${figures.generatorLimited ? '≥ ' : ''}${count(figures.perSecond)}` : '–');
const cpu = (figures) => (figures ? count(figures.serverCpuNs) : '–');
/** Columns that no row fills are left out. */
function filled(head, rows) {
  const kept = head.map((_, i) => i === 0 || rows.some((row) => row[i] !== '–'));
  const only = (cells) => cells.filter((_, i) => kept[i]);
  return { head: only(head), rows: rows.map(only) };
}

function shapeTables(shapes) {
  const ratios = shapes.map((one) => [
    one.shape,
    ...[one.daemonOverEcho, one.daemonOverHttp, one.daemonOverFastify, one.httpCpuOverDaemon, one.decryptOverEncrypt].map(
      (ratio) => spread(ratio),
    ),
  ]);
  const servers = ({ daemon, decrypt, echo, http, fastify }) => [daemon, decrypt, echo, http, fastify];
  const names = ['encrypt', 'decrypt', 'C echo', 'node:http', 'Fastify'];
  const ratioHead = [
    'in flight',
    'of the C echo’s rate',
    'of node:http’s',
    'of Fastify’s',
    'CPU of node:http over ours',
    'decrypt of encrypt',
  ];
  return [
    { caption: 'The daemon’s rate against the others’ (quartiles)', ...filled(ratioHead, ratios) },
    {
      caption: 'Operations per second',
      ...filled(
        ['in flight', ...names],
        shapes.map((one) => [one.shape, ...servers(one).map(rate)]),
      ),
    },
    {
      caption: 'Nanoseconds of the server’s CPU per operation',
      ...filled(
        ['in flight', ...names],
        shapes.map((one) => [one.shape, ...servers(one).map(cpu)]),
      ),
    },
  ];
}

function sizeTable(sizes) {
  const moved = (size, figures) => (figures ? gigabytes((size * figures.perSecond) / 1e9) : '–');
  const rows = sizes.map(({ size, inFlight, encrypt, decrypt, echo }) => [
    bytes(size),
    String(inFlight),
    ...[rate(encrypt), moved(size, encrypt), rate(decrypt), moved(size, decrypt), rate(echo)],
  ]);
  return {
    caption: 'By message size, one connection',
    ...filled(['message', 'in flight', 'encrypts /s', 'plaintext', 'decrypts /s', 'plaintext', 'C echo /s'], rows),
  };
}

function surfaceTable({ shape, daemon, http, fastify, daemonOverHttp, daemonOverFastify }) {
  const line = (name, figures, ratio) => [name, rate(figures), cpu(figures), ratio ? spread(ratio) : '–'];
  const lines = [
    ['progressdb-kms', daemon],
    ['node:http', http, daemonOverHttp],
    ['Fastify', fastify, daemonOverFastify],
  ];
  const rows = lines.filter(([, figures]) => figures).map(([name, figures, ratio]) => line(name, figures, ratio));
  const caption = `The same encrypts over HTTP/JSON, ${shape}: our HTTP surface, with strict input, roles and key state, against the bare servers`;
  return { caption, head: ['server', 'requests /s', 'CPU ns', 'our rate over its'], rows };
}

export function daemonSection({ plaintextBytes, aadBytes, turns, httpShape, fastifyShape, shapes, sizes, httpSurface, creates }) {
  const driven = [httpShape && `node:http ${httpShape}`, fastifyShape && `Fastify ${fastifyShape}`].filter(Boolean).join(', ');
  const tables = [...(shapes?.length ? shapeTables(shapes) : [])];
  if (sizes?.length) tables.push(sizeTable(sizes));
  if (httpSurface) tables.push(surfaceTable(httpSurface));
  if (creates?.length) {
    const rows = creates.map(({ inFlight, perSecond }) => [count(inFlight), count(perSecond)]);
    tables.push({ caption: 'Durable creates of keys, files store', head: ['under way', 'creates /s'], rows });
  }
  return {
    title: `Daemon: messages of ${bytes(plaintextBytes)}, AAD ${aadBytes} bytes, over a Unix socket`,
    part: 'daemon',
    text: [
      'Connections x requests in flight on each; load generators in C (`bench/load.c`, `bench/http_load.c`), which check every answer. The C echo is an epoll server that parses the same frames and answers with frames of the right size, without encrypting (`bench/echo.c`). node:http and Fastify are servers of JSON and base64 with node:crypto, on a Unix socket too, driven by raw pipelined keep-alive connections.',
      `${turns} turns.${driven === '' ? '' : ` Connections x in flight that served the others best: ${driven}.`}`,
    ],
    tables,
  };
}

const PERCENTILES = ['p50', 'p90', 'p99', 'p999', 'max'];

function latencyTable(caption, entries, first) {
  const rows = entries.map((one) => [
    serverOf(one.server).label,
    ...first.map(([, cell]) => cell(one)),
    ...PERCENTILES.map((field) => micros(one[field])),
  ]);
  return { caption, ...filled(['server', ...first.map(([name]) => name), 'p50', 'p90', 'p99', 'p99.9', 'max'], rows) };
}

export function latencySection({ plaintextBytes, open = [], oneCore = [], twoCores = [] }) {
  const due = [
    ['connections', ({ connections }) => count(connections)],
    ['due /s', ({ perSecond }) => count(perSecond)],
    ['answered /s', ({ achieved }) => count(achieved)],
    ['kept up', ({ saturated }) => (saturated === undefined ? '–' : saturated ? 'no' : 'yes')],
    ['generator late', ({ generatorLateUs }) => (generatorLateUs === undefined ? '–' : micros(generatorLateUs))],
  ];
  const tables = [
    ['Open loop: requests are due at a fixed rate, whatever the answers do', open, due],
    ['One request at a time, client and server on one core', oneCore, [['requests /s', ({ perSecond }) => count(perSecond)]]],
    ['One request at a time across two cores', twoCores, [['requests /s', ({ perSecond }) => count(perSecond)]]],
  ];
  return {
    title: `Latency: encrypts of ${bytes(plaintextBytes)}`,
    part: 'latency',
    text: [
      'From the instant a request was due, whether or not it could be sent then, to its answer: a server that falls behind does not get fewer requests, and its percentiles then tell how long it was asked. How late the generator itself was, in the mean, is no server’s doing. Across two cores a round trip is mostly the waking of the other core; `spin` keeps the daemon’s loop awake for a moment after each frame.',
    ],
    tables: tables.filter(([, entries]) => entries.length > 0).map((table) => latencyTable(...table)),
  };
}
