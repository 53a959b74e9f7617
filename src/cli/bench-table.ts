import type { Measured } from '../bench/measure.js';
import type { Mode } from '../bench/plan.js';
import { isBaseline, type Row } from '../bench/rows.js';
import type { Ratio } from '../bench/statistics.js';

const KIB = 1024;
const MIB = 1024 * KIB;

/** A column: what stands above it, what of a row stands in it, and on which side. */
interface Column {
  head: string;
  cell(row: Row): string;
  left?: true;
}

export function benchText(measured: Measured): string {
  const { rows, settings } = measured;
  const parts = settings.modes.map((mode) => {
    const own = rows.filter((row) => row.mode === mode);
    return `${headingOf(mode, measured)}\n${tableOf(columnsOf(mode, settings.rate !== null), own)}`;
  });
  return [setting(measured), ...parts, notes(measured)].join('\n\n');
}

function setting({ at, machine, versions, settings }: Measured): string {
  const { cpu, cores, memoryGib, os } = machine;
  const { repeats, seconds } = settings;
  return [
    `progressdb-kms ${versions.product}, Node ${versions.node} (OpenSSL ${versions.openssl}), ${at.slice(0, 19)}Z`,
    `${cpu}, ${cores === 1 ? '1 core' : `${cores} cores`}, ${memoryGib} GiB, ${os}`,
    `each row: ${repeats === 1 ? 'one block' : `${repeats} blocks`} of ${seconds} s, in turn with its neighbours`,
  ].join('\n');
}

function headingOf(mode: Mode, { settings, daemon, machine }: Measured): string {
  const keys = settings.keys === 1 ? 'one key' : `random ones of ${count(settings.keys)} keys`;
  if (mode === 'embedded') {
    const store = settings.store === 'memory' ? 'in memory' : `in files below ${machine.temporaryDirectory}`;
    return `embedded: ${keys}, ${store}; one thread, one message after another`;
  }
  const whose = daemon === null ? `a daemon of its own, data below ${machine.temporaryDirectory}` : `the daemon at ${daemon}`;
  const rate = settings.rate === null ? '' : `; ${count(settings.rate)} requests a second are due`;
  return `daemon: ${keys}, ${whose}; clients of Node${rate}`;
}

function columnsOf(mode: Mode, isOpen: boolean): Column[] {
  const latency = (head: string, of: 'p50Ns' | 'p90Ns' | 'p99Ns' | 'p999Ns' | 'maxNs'): Column => ({
    head,
    cell: ({ latency }) => (latency === null ? '' : time(latency[of])),
  });
  const other = mode === 'embedded' ? 'node:crypto' : 'node:http';
  return [
    { head: 'operation', cell: ({ operation }) => operation, left: true },
    { head: 'size', cell: sizeCell },
    { head: 'in flight', cell: shapeCell },
    { head: 'by', cell: ({ by }) => by, left: true },
    { head: isOpen ? 'answers/s' : 'per second', cell: perSecondCell },
    latency('p50', 'p50Ns'),
    latency('p90', 'p90Ns'),
    latency('p99', 'p99Ns'),
    latency('p99.9', 'p999Ns'),
    latency('max', 'maxNs'),
    ...(mode === 'daemon'
      ? [{ head: 'server CPU', cell: ({ serverCpuNs }: Row) => (serverCpuNs === null ? '' : time(serverCpuNs)) }]
      : []),
    { head: isOpen ? `p99 of ${other}` : `against ${other}`, cell: againstCell },
  ];
}

function sizeCell({ operation, size, keys }: Row): string {
  if (size === null) return operation === 'rotate' ? `${count(keys)} keys` : '';
  return sizeText(size);
}

function perSecondCell({ perSecond, unsent }: Row): string {
  return `${unsent > 0 ? 'cannot keep up: ' : ''}${count(perSecond.median)}`;
}

function shapeCell({ connections, inFlight }: Row): string {
  if (connections !== null) return `${connections} x ${inFlight}`;
  return inFlight === null ? '' : `${inFlight}`;
}

function againstCell(row: Row): string {
  return row.againstBaseline === null ? (isBaseline(row.by) ? '1' : '') : ratioText(row.againstBaseline);
}

function ratioText({ ratio, low, high }: Ratio): string {
  return `${short(ratio)}x (${short(low)}–${short(high)})`;
}

function tableOf(columns: readonly Column[], rows: readonly Row[]): string {
  const cells = [columns.map(({ head }) => head), ...rows.map((row) => columns.map(({ cell }) => cell(row)))];
  const shown = columns.map((_, column) => cells.slice(1).some((line) => line[column] !== ''));
  const widths = columns.map((_, column) => Math.max(...cells.map((line) => (line[column] as string).length)));
  const aligned = (text: string, column: number) => {
    const width = widths[column] as number;
    return columns[column]?.left ? text.padEnd(width) : text.padStart(width);
  };
  return cells
    .map((line) =>
      line
        .map(aligned)
        .filter((_, column) => shown[column])
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

function notes({ settings, rows }: Measured): string {
  const lines = [];
  const isOpen = settings.rate !== null;
  if (isOpen) {
    lines.push('times: from the instant at which a request was due, whether it could be sent then or not, to its answer');
    if (rows.some(isSentLate))
      lines.push('some were sent late: this machine is busy, and the times tell of that more than of the server');
    if (rows.some(({ unsent }) => unsent > 0))
      lines.push('cannot keep up: not all that was due could be sent; the times grow for as long as it lasts');
  } else
    lines.push('per second: the median of the blocks; p50 to max: how long one took, of all blocks, with what reads the clock');
  if (rows.some(({ connections }) => connections !== null))
    lines.push('in flight: connections x requests under way on each; over HTTP each of them has its own connection');
  if (settings.baseline) {
    lines.push(
      `${isOpen ? 'p99 of node:http: over that of this row' : 'against: throughput over that of the block beside it'}; in brackets the quartiles`,
    );
  }
  return lines.join('\n');
}

/** Where most of the time goes by before a request is sent, although the server keeps up. */
function isSentLate({ latency, sendDelay, unsent }: Row): boolean {
  if (latency === null || sendDelay === null || unsent > 0) return false;
  return sendDelay.p99Ns > latency.p99Ns / 2;
}

function count(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString('en-US') : value.toFixed(1);
}

function short(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(value < 10 ? 2 : 1);
}

function sizeText(bytes: number): string {
  if (bytes % MIB === 0) return `${bytes / MIB} MiB`;
  return bytes % KIB === 0 ? `${bytes / KIB} KiB` : `${bytes} B`;
}

function time(ns: number): string {
  if (ns >= 1e9) return `${(ns / 1e9).toFixed(2)} s`;
  if (ns >= 1e6) return `${(ns / 1e6).toFixed(2)} ms`;
  return ns >= 1e4 ? `${(ns / 1e3).toFixed(1)} µs` : `${(ns / 1e3).toFixed(2)} µs`;
}
