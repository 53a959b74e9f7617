// The process of the keys sweep, on the memory store. Needs --expose-gc. Argument: JSON of {floor, product, size, aadBytes,
// cachedKeys, arenaBytes}. `{grow}` makes keys up to that many; `{turn}` opens what was sealed some turns ago, and seals anew.
import { randomBytes, randomInt } from 'node:crypto';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import { answerMessages } from './processes.js';

const { floor: addon, product, size, aadBytes, cachedKeys, arenaBytes } = JSON.parse(process.argv[2]);
const { floor, threadClock } = createRequire(import.meta.url)(addon);
const { createEmbeddedKms } = await import(product);
const { arenaInfo } = await import(new URL('vault.js', product).href);

const MESSAGES = 16_384;
const SEALED_BYTES = size + 28;
const CREATES_AT_ONCE = 64;
/** A slow machine ends with fewer keys, rather than late. */
const MOST_SECONDS = 90;
const FLOOR_OPERATIONS = 30_000;
/** Blocks kept to be opened, two a turn. Where not all keys have room, as many keys have been wanted since as evict those of the oldest. */
const BLOCKS = { allCached: 4, crowded: 20 };

const kms = await createEmbeddedKms({ memory: true, cachedKeys, arenaBytes, keyIdleMs: 0 });
const ids = [];
const handles = [];
const plaintext = randomBytes(size);
const opened = Buffer.alloc(size);
const aad = randomBytes(aadBytes);
let blocks = [];

/** The memory of dead buffers goes back on another thread, after the collection. */
async function residentBytes() {
  globalThis.gc();
  await sleep(100);
  globalThis.gc();
  return process.memoryUsage.rss();
}
const residentAtFirst = await residentBytes();

/** Each is resolved while it is still unwrapped: afterwards that would cost an unwrapping where not all of them have room. */
async function makeKeys(count) {
  const until = performance.now() + MOST_SECONDS * 1000;
  let left = count - ids.length;
  const worker = async () => {
    while (left-- > 0 && performance.now() < until) {
      const { keyId } = await kms.createDekForThread('bench');
      const key = await kms.key(keyId);
      ids.push(keyId);
      handles.push(key);
    }
  };
  await Promise.all(Array.from({ length: CREATES_AT_ONCE }, worker));
}

/** A loop of its own for each way, over messages for keys drawn beforehand. */
const ways = {
  encrypt({ chosen, sealed }) {
    const start = threadClock();
    for (let i = 0; i < MESSAGES; i++) handles[chosen[i]].encryptInto(plaintext, aad, sealed, i * SEALED_BYTES);
    return threadClock() - start;
  },
  encryptById({ chosen, sealed }) {
    const start = threadClock();
    for (let i = 0; i < MESSAGES; i++) kms.encryptInto(ids[chosen[i]], plaintext, aad, sealed, i * SEALED_BYTES);
    return threadClock() - start;
  },
  decrypt({ chosen }, messages) {
    const start = threadClock();
    for (let i = 0; i < MESSAGES; i++) handles[chosen[i]].decryptInto(messages[i], aad, opened, 0);
    return threadClock() - start;
  },
  decryptById({ chosen }, messages) {
    const start = threadClock();
    for (let i = 0; i < MESSAGES; i++) kms.decryptInto(ids[chosen[i]], messages[i], aad, opened, 0);
    return threadClock() - start;
  },
};

function choose(block) {
  for (let i = 0; i < MESSAGES; i++) block.chosen[i] = randomInt(ids.length);
}

function measure(name, block) {
  const opens = name.startsWith('decrypt');
  if (!opens) choose(block);
  opened.fill(0);
  const messageAt = (_, i) => block.sealed.subarray(i * SEALED_BYTES, (i + 1) * SEALED_BYTES);
  const messages = opens ? Array.from({ length: MESSAGES }, messageAt) : [];
  const below = floor(opens, size, aadBytes, FLOOR_OPERATIONS);
  const ns = ways[name](block, messages) / MESSAGES;
  if (opens && !plaintext.equals(opened)) throw new Error(`${name}: not what was encrypted`);
  return { floor: below, ns };
}

async function grow(count) {
  blocks = [];
  const begun = performance.now();
  await makeKeys(count);
  const seconds = (performance.now() - begun) / 1000;
  // Before the messages, which are this program's own.
  const resident = (await residentBytes()) - residentAtFirst;
  const cached = kms.cachedKeys;
  const length = cached < ids.length ? BLOCKS.crowded : BLOCKS.allCached;
  blocks = Array.from({ length }, () => ({ chosen: new Uint32Array(MESSAGES), sealed: Buffer.alloc(MESSAGES * SEALED_BYTES) }));
  for (const block of blocks) measure('encrypt', block);
  return { keys: ids.length, cachedKeys: cached, residentBytes: resident, seconds, ...arenaInfo() };
}

function turn() {
  const [first, second] = blocks.splice(0, 2);
  const decrypt = measure('decrypt', first);
  const decryptById = measure('decryptById', second);
  const encrypt = measure('encrypt', first);
  const encryptById = measure('encryptById', second);
  blocks.push(first, second);
  return { turn: { encrypt, encryptById, decrypt, decryptById } };
}

answerMessages((message) => (message.grow ? grow(message.grow) : turn()));
