// One block of load on a server, by the generators in C. A result has answers per second, the server's CPU for each, and how busy both were.
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { percentilesOf } from './percentiles.js';
import { runLoad } from './processes.js';
import { AAD_BYTES, PLAINTEXT_BYTES } from './servers.js';
import { median } from './statistics.js';

const LATENCY_UNIT_NS = 10;
const SATURATED = 0.95;

export const nameOf = ([connections, inFlight]) => `${connections} x ${inFlight}`;

/** `shape` is connections and requests in flight on each. `more`: `{size, decrypt, core}`, and `args` of the generator. */
export function binaryLoad({ programs }, { socket, keyId, child }, [connections, inFlight], { warm, seconds }, more = {}) {
  const { size = PLAINTEXT_BYTES, decrypt = false, args = [], core } = more;
  const flags = decrypt ? ['--decrypt', ...args] : args;
  const command = [programs.load, socket, keyId, size, AAD_BYTES, connections, inFlight, warm, seconds, child.pid, ...flags];
  return runLoad(command, core);
}

export function httpLoad(
  { programs },
  { socket, bodyFile, child },
  [connections, inFlight],
  { warm, seconds },
  { args = [] } = {},
) {
  return runLoad([programs.httpLoad, socket, bodyFile, connections, inFlight, warm, seconds, child.pid, ...args]);
}

/** A generator that has no time left, and less than the server, shows its own rate and not the server's. */
export const isGeneratorLimited = ({ generatorBusy, serverBusy }) => generatorBusy >= SATURATED && generatorBusy > serverBusy;

/** Medians of the blocks of one server; undefined without any. */
export function serverRate(results) {
  if (results === undefined || results.length === 0) return undefined;
  const middle = (field) => median(results.map((result) => result[field]));
  const busy = { serverBusy: middle('serverBusy'), generatorBusy: middle('generatorBusy') };
  return {
    perSecond: middle('perSecond'),
    serverCpuNs: middle('serverCpuNs'),
    ...busy,
    generatorLimited: isGeneratorLimited(busy),
  };
}

/** Runs `load` with a file to keep latencies in, and gives its result with their percentiles. */
export async function withLatencies({ scratch }, load) {
  const file = join(scratch, 'latencies');
  try {
    const result = await load(['--latencies', file]);
    const bytes = readFileSync(file);
    const units = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / Uint32Array.BYTES_PER_ELEMENT);
    return { ...result, percentiles: percentilesOf(units, LATENCY_UNIT_NS) };
  } finally {
    rmSync(file, { force: true });
  }
}
