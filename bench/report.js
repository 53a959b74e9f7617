// BENCHMARKS.md out of the results: ratios against the bars first, absolute figures second.
import { judge } from './bars.js';

const count = (value) => Math.round(value).toLocaleString('en-US');
const short = (value) => (value >= 10_000 ? count(value) : value >= 100 ? value.toFixed(0) : value.toFixed(value < 10 ? 2 : 1));
const amount = (value, unit) => (value === undefined ? '–' : `${short(value)}${unit}`);
const spread = (measured, unit) =>
  measured?.low === undefined
    ? amount(measured?.ratio, unit)
    : `${amount(measured.ratio, unit)} (${short(measured.low)}–${short(measured.high)})`;
const time = (ns) =>
  ns >= 1e6 ? `${(ns / 1e6).toFixed(2)} ms` : ns >= 10_000 ? `${(ns / 1000).toFixed(1)} µs` : `${count(ns)} ns`;

const row = (cells) => `| ${cells.join(' | ')} |`;
const table = (head, rows) => [row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n');

function barTable(results) {
  const verdict = ({ met, wished }) => (met === undefined ? 'not measured' : met ? 'yes' : wished ? 'no (wished)' : '**no**');
  const bound = ({ most, least, unit }) => (most === undefined ? `≥ ${short(least)}${unit}` : `≤ ${short(most)}${unit}`);
  const rows = judge(results).map((bar) => [bar.what, bound(bar), spread(bar.measured, bar.unit), verdict(bar)]);
  return table(['what', 'bar', 'measured (quartiles)', 'met'], rows);
}

const sizeName = (bytes) => (bytes < 1024 ? `${bytes} B` : `${bytes / 1024} KiB`);

function embeddedSection({ aadBytes, sizes }) {
  const names = Object.keys(sizes[0].variants);
  const order = ['encryptInto', 'encryptSync', 'encryptWithDek', ...names.filter((name) => !name.startsWith('encrypt'))];
  const shown = order.filter((name) => names.includes(name));
  const label = (name) => {
    const { algorithm } = sizes[0].variants[name];
    return algorithm === 'AES-256-GCM' ? name : `${name} (${algorithm})`;
  };
  const head = ['', ...sizes.map(({ size }) => sizeName(size))];
  const ratios = shown.map((name) => [label(name), ...sizes.map(({ variants }) => spread(variants[name].overFloor, 'x'))]);
  const absolute = [
    ['C++ floor', ...sizes.map(({ floorNs }) => time(floorNs))],
    ...shown.map((name) => [label(name), ...sizes.map(({ variants }) => time(variants[name].ns))]),
  ];
  return `## Embedded: sealing one message, AAD ${aadBytes} bytes

The floor is a C++ loop inside one call, with the OpenSSL of the running node: one kept context, nonces drawn in batches,
one reused output buffer. \`encryptInto\` writes into the caller's buffer by key handle, \`encryptSync\` gives a fresh result,
\`encryptWithDek\` a promise. node:crypto, WebCrypto and @noble/ciphers draw a random IV and join IV, ciphertext and tag, as
an application would. All but the ones marked are AES-256-GCM. Synchronous forms by the thread's CPU time, so that other
work on the machine does not count; WebCrypto and the promise by the clock. ${sizes[0].turns} turns; each block had a block of the
floor right before it.

Time over the floor's:

${table(head, ratios)}

Time per message:

${table(head, absolute)}
`;
}

function surfaceLines({ daemon, http, daemonOverHttp }) {
  if (!daemon) return '';
  const line = (name, figures) => [name, count(figures.perSecond), count(figures.serverCpuNs)];
  return `
The same encrypts over HTTP/JSON, 16 connections with one request each: the daemon's own HTTP surface, with strict input, roles and
key state, against that bare server, ${spread(daemonOverHttp, 'x')} of its rate.

${table(['server', 'requests /s', 'CPU ns'], [line('progressdb-kms', daemon), line('node:http', http)])}
`;
}

function daemonSection({ plaintextBytes, aadBytes, turns, httpShape, shapes, httpSurface }) {
  const ratios = shapes.map(({ shape, daemonOverEcho, daemonOverHttp, httpCpuOverDaemon }) => [
    shape,
    spread(daemonOverEcho, 'x'),
    daemonOverHttp ? spread(daemonOverHttp, 'x') : '',
    httpCpuOverDaemon ? spread(httpCpuOverDaemon, 'x') : '',
  ]);
  const rate = (figures) => (figures ? count(figures.perSecond) : '–');
  const cpu = (figures) => (figures ? count(figures.serverCpuNs) : '–');
  const absolute = shapes.map(({ shape, daemon, echo, http }) => [
    shape,
    rate(daemon),
    cpu(daemon),
    rate(echo),
    cpu(echo),
    http ? rate(http) : '',
    http ? cpu(http) : '',
  ]);
  return `## Daemon: encrypts of ${sizeName(plaintextBytes)}, AAD ${aadBytes} bytes, over a Unix socket

Connections x requests in flight on each; load generators in C (\`bench/load.c\`, \`bench/http_load.c\`), which check every answer.
The C echo is an epoll server that parses the same frames and answers with frames of the right size, without encrypting
(\`bench/echo.c\`). node:http is a server of JSON and base64 with node:crypto (\`bench/http-server.js\`), on a Unix socket too,
driven by raw pipelined keep-alive connections, ${httpShape}, which served it best. ${turns} turns.

${table(['in flight', 'of the C echo', 'against node:http', 'CPU per operation of node:http over ours'], ratios)}

Operations per second, and the server's CPU nanoseconds for each:

${table(['in flight', 'daemon /s', 'CPU ns', 'C echo /s', 'CPU ns', 'node:http /s', 'CPU ns'], absolute)}
${surfaceLines(httpSurface)}`;
}

function clientSection({ inFlight, turns, kms, http, kmsOverHttp }) {
  const line = (name, figures) => [name, figures ? count(figures.perSecond) : '–', figures ? count(figures.clientCpuNs) : '–'];
  return `## Node client: ${inFlight} encrypts in flight, a promise each, end to end

\`connectKms\` against our daemon, and a node:http keep-alive client (an agent of ${inFlight} sockets, JSON and base64) against the
node:http server above, in turn. ${turns} turns. Ours over the other: ${spread(kmsOverHttp, 'x')}.

${table(['client', 'operations /s', 'client CPU ns'], [line('connectKms', kms), line('node:http', http)])}
`;
}

function auditSection({ turns, inFlight, modes }) {
  const rows = modes.map(({ name, perSecond, serverCpuNs, ofOff }) => [
    name,
    name === 'off' ? '' : spread(ofOff, 'x'),
    count(perSecond),
    count(serverCpuNs),
  ]);
  return `## Audit: what its lines cost the daemon

The load above, ${inFlight} in flight, on daemons that differ in \`audit.data_operations\` only, in turn: \`grouped\` is one line per
actor, key, operation and outcome every 100 ms, \`each\` one line per operation, \`strict\` answers when the line is durable. ${turns} turns.

${table(['data operations', 'of `off`', 'operations /s', 'CPU ns'], rows)}
`;
}

function rotationSection({ keys, createdPerSecond, rotatedPerSecond }) {
  return `## Rotation: ${count(keys)} keys in the files store

Embedded, with the audit log, on the disk of this run's temporary directory: ${count(createdPerSecond)} durable creates per second with 64
under way; a rotation that backs up, rewraps and verifies each key moves ${count(rotatedPerSecond)} keys per second.
`;
}

function machineLines({ machine, versions, at, quick, pinned }) {
  return [
    `${at.slice(0, 10)}${quick ? ', a quick run: too short to judge by' : ''}. ${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.os}.`,
    `Node ${versions.node} (OpenSSL ${versions.openssl}), progressdb-kms ${versions.product}, sodium-native ${versions.sodium}, @noble/ciphers ${versions.noble}.`,
    pinned
      ? 'Servers ran on one core, what drove them on the other.'
      : 'Servers and what drove them were not pinned to cores: the machine has one, or no taskset.',
  ].join('\n');
}

/** The whole document; `notes` is text kept by hand in bench/notes.md. */
export function report(results, notes) {
  const parts = [
    `# Benchmarks

Written by \`npm run bench\`, which reproduces it. Ratios are medians over alternated blocks of one run, each taken between
neighbouring blocks, so they hold from machine to machine; absolute figures wander by tens of percent.

${machineLines(results)}

## Ratios and their bars

${barTable(results)}
`,
  ];
  if (results.embedded) parts.push(embeddedSection(results.embedded));
  if (results.daemon) parts.push(daemonSection(results.daemon));
  if (results.audit) parts.push(auditSection(results.audit));
  if (results.rotation) parts.push(rotationSection(results.rotation));
  if (results.client) parts.push(clientSection(results.client));
  if (notes) parts.push(`## Notes\n\n${notes.trim()}\n`);
  return parts.join('\n');
}
