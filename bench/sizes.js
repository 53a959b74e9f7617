// Messages from 64 bytes to 1 MiB on one connection: encrypted, decrypted, and the floor of the C echo.
import { binaryLoad, serverRate } from './loads.js';
import { inTurns } from './turns.js';

const KIB = 1024;
const SIZES = [64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, 1024 * KIB];
/** In flight: as many as these bytes hold, so that large messages do not only measure the memory. */
const IN_FLIGHT_BYTES = 4096 * KIB;
const MAX_IN_FLIGHT = 256;
const MIN_IN_FLIGHT = 4;

const inFlightOf = (size) => Math.max(MIN_IN_FLIGHT, Math.min(MAX_IN_FLIGHT, Math.floor(IN_FLIGHT_BYTES / size)));

export async function measureSizes(run, servers, plan) {
  if (!servers.daemon) return [];
  const blocks = {};
  for (const size of SIZES) {
    const shape = [1, inFlightOf(size)];
    blocks[`${size} echo`] = () => binaryLoad(run, servers.echo, shape, plan, { size });
    blocks[`${size} encrypt`] = () => binaryLoad(run, servers.daemon, shape, plan, { size });
    blocks[`${size} decrypt`] = () => binaryLoad(run, servers.daemon, shape, plan, { size, decrypt: true });
  }
  const results = await inTurns(plan.turns, blocks, (turn) => run.say(`sizes: ${turn}`));
  return SIZES.map((size) => ({
    size,
    inFlight: inFlightOf(size),
    encrypt: serverRate(results[`${size} encrypt`]),
    decrypt: serverRate(results[`${size} decrypt`]),
    echo: serverRate(results[`${size} echo`]),
  }));
}
