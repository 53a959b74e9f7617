// One process of the embedded figures: several ways to seal and to open one message, in alternated blocks.
// Argument: JSON of {floor, size, aadBytes, blockMs, warmMs, scratch, product, modules, names}.
import { createDecipheriv, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { loopsOf } from './loops.js';
import { answerMessages } from './processes.js';

const order = JSON.parse(process.argv[2]);
const native = createRequire(import.meta.url)(order.floor);

const MOST_OPERATIONS = 200_000;
/** So many make any of them compiled code: what goes through many promises and streams gets there last (measured). */
const WARM_OPERATIONS = 4_000;
/**
 * Of a block, run before it: the garbage of the one before goes, and the heap gets the size that this one needs. A forced
 * collection would throw the heap back to its first size, and charge every short block after it with growing anew.
 */
const LEAD_IN = 1 / 2;
/** Of a block: the floor has nothing to collect and nothing to warm up, so that it wanders less. */
const FLOOR_SHARE = 1 / 2;

/** What every variant works on. `opensRaw` checks what is sealed under `rawKey`. */
function makeGround() {
  const plaintext = randomBytes(order.size);
  const aad = randomBytes(order.aadBytes);
  const rawKey = randomBytes(32);
  const opensRaw = (sealed) => {
    const decipher = createDecipheriv('aes-256-gcm', rawKey, sealed.subarray(0, 12)).setAAD(aad);
    decipher.setAuthTag(sealed.subarray(-16));
    return plaintext.equals(Buffer.concat([decipher.update(sealed.subarray(12, -16)), decipher.final()]));
  };
  const { product, scratch } = order;
  return { plaintext, aad, rawKey, overhead: 28, opensRaw, product, scratch, ...loopsOf(native) };
}

/** Warms a variant up, checks what it made, and finds how many steps fill a block. */
async function prepare(name, make) {
  const variant = { operation: 'encrypt', algorithm: 'AES-256-GCM', messages: 1, ...(await make()) };
  let [steps, took, done, spent] = [1, 0, 0, 0];
  const isWarm = () => took >= order.blockMs * 1e6 && (done >= WARM_OPERATIONS || spent >= order.warmMs * 1e6);
  while (done < MOST_OPERATIONS && !isWarm()) {
    if (took < order.blockMs * 1e6) steps = Math.min(steps * 2, MOST_OPERATIONS);
    const { ns, cpuNs } = await variant.run(steps);
    took = ns;
    done += steps;
    spent += cpuNs;
  }
  if (!(await variant.works(variant.last()))) throw new Error(`${name}: what it made does not hold`);
  const fill = Math.round((steps * order.blockMs * 1e6) / took);
  return { ...variant, name, steps: Math.max(1, Math.min(MOST_OPERATIONS, fill)) };
}

/** Nanoseconds of CPU time of the floor in a variant's direction. */
function floorFor({ operation }, operations) {
  return native.floor(operation === 'decrypt', order.size, order.aadBytes, operations);
}

/** One variant's block with a block of its floor right before it: nanoseconds per message. */
async function block(variant, floorOperations) {
  await variant.run(Math.ceil(variant.steps * LEAD_IN));
  const below = floorFor(variant, floorOperations);
  const { ns, cpuNs } = await variant.run(variant.steps);
  const messages = variant.steps * variant.messages;
  return { floor: below, ns: ns / messages, cpuNs: cpuNs / messages };
}

/** The product finds its OpenSSL in the process as the floor does: there must be one, and it must be this node's. */
function checkOpenssl() {
  const [compiledFor, called, file] = native.openssl();
  const own = process.versions.openssl.split('+')[0];
  if (compiledFor !== own || called !== own) {
    throw new Error(`node has OpenSSL ${own}; the floor was compiled for ${compiledFor} and calls ${called} in ${file}`);
  }
  const another = /\S*lib(crypto|ssl)\S*/.exec(readFileSync('/proc/self/maps', 'utf8'));
  if (another) throw new Error(`a second OpenSSL is loaded: ${another[0]}`);
}

/** How many steps of the floor fill its block, found once they are warm. */
function floorSteps() {
  const sealing = { operation: 'encrypt' };
  const some = Math.ceil(2e6 / floorFor(sealing, 10));
  return Math.ceil((order.blockMs * FLOOR_SHARE * 1e6) / floorFor(sealing, some));
}

const ground = makeGround();
const prepared = [];
for (const module of order.modules) {
  const { variants } = await import(`./variants/${module}.js`);
  for (const [name, make] of Object.entries(await variants(ground))) {
    if (order.names === undefined || order.names.includes(name)) prepared.push(await prepare(name, make));
  }
}
checkOpenssl();
// Those that leave work for other turns of the loop come last.
prepared.sort((a, b) => Number(a.byClock) - Number(b.byClock));
const floorOperations = floorSteps();

const described = prepared.map(({ name, operation, algorithm, byClock }) => [name, { operation, algorithm, byClock }]);

answerMessages(async () => {
  const turn = {};
  for (const variant of prepared) turn[variant.name] = await block(variant, floorOperations);
  return { turn, variants: Object.fromEntries(described), openssl: process.versions.openssl, node: process.version };
});
