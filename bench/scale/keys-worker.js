// The process whose embedded provider makes keys, uses them and rotates. Needs --expose-gc. Argument: JSON of {product, floor,
// options,
// sealed, inFlight}, `options` those of createEmbeddedKms. Messages: `{fill}`, `{decrypt}`, `{encryptFirst}`, `{touch}`, `{memory}`, `{rotate}`, `{close}`.
import { randomInt } from 'node:crypto';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import { answerMessages } from '../processes.js';
import { memoryOf } from './memory.js';
import { AAD, ENTRY_BYTES, ID_BYTES, PLAINTEXT_BYTES, plaintextOf, SealedFile } from './sealed-file.js';

const { product, floor, options, sealed, inFlight } = JSON.parse(process.argv[2]);
const { threadClock } = createRequire(import.meta.url)(floor);
const { createEmbeddedKms } = await import(product);

const MESSAGES = 8_192;
/** As an application that has many threads names them. */
const threadOf = (n) => `t/${n.toString().padStart(8, '0')}`;

const file = new SealedFile(sealed);
const kms = await createEmbeddedKms(options);

/** Seconds by the clock and of all the process's threads. */
async function timed(work) {
  const cpu = process.cpuUsage();
  const begun = performance.now();
  const result = await work();
  const seconds = (performance.now() - begun) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return { result, seconds, cpuSeconds: (user + system) / 1e6 };
}

/** Keys are sealed under while they are still unwrapped, and that is not timed. */
async function fill(count) {
  const first = file.entries;
  const ids = [];
  let next = first;
  const lane = async () => {
    while (next < first + count) ids.push((await kms.createDekForThread(threadOf(next++))).keyId);
  };
  const { seconds, cpuSeconds } = await timed(() => Promise.all(Array.from({ length: inFlight }, lane)));
  const entries = Buffer.alloc(count * ENTRY_BYTES);
  const plaintext = Buffer.alloc(PLAINTEXT_BYTES);
  ids.forEach((keyId, i) => {
    entries.write(keyId, i * ENTRY_BYTES, ID_BYTES, 'latin1');
    kms.encryptInto(keyId, plaintextOf(first + i, plaintext), AAD, entries, i * ENTRY_BYTES + ID_BYTES);
  });
  file.append(entries);
  return { keys: count, seconds, cpuSeconds };
}

/** Of messages for random ones of the first `keys`; nanoseconds of the thread each. */
function decrypt(keys) {
  const messages = Array.from({ length: MESSAGES }, () => file.at(randomInt(keys)));
  const opened = Buffer.alloc(PLAINTEXT_BYTES * MESSAGES);
  const begun = threadClock();
  for (let i = 0; i < MESSAGES; i++) kms.decryptInto(messages[i].keyId, messages[i].sealed, AAD, opened, i * PLAINTEXT_BYTES);
  const ns = (threadClock() - begun) / MESSAGES;
  const plaintext = Buffer.alloc(PLAINTEXT_BYTES);
  messages.forEach(({ index }, i) => {
    if (plaintextOf(index, plaintext).compare(opened, i * PLAINTEXT_BYTES, (i + 1) * PLAINTEXT_BYTES) !== 0)
      throw new Error('not what was encrypted');
  });
  return { ns };
}

/** The first encryption under each of so many keys since the process began, for which uses are reserved durably. */
async function encryptFirst(count) {
  let next = 0;
  const plaintext = Buffer.alloc(PLAINTEXT_BYTES);
  const lane = async () => {
    while (next < count) await kms.encryptWithDek(file.at(next++).keyId, plaintext, AAD);
  };
  const { seconds, cpuSeconds } = await timed(() => Promise.all(Array.from({ length: inFlight }, lane)));
  return { keys: count, seconds, cpuSeconds };
}

/** Each of the first `keys` once, so that those that have room are in the vault. */
function touch(keys) {
  const opened = Buffer.alloc(PLAINTEXT_BYTES);
  for (let i = 0; i < keys; i++) {
    const { keyId, sealed: message } = file.at(i);
    kms.decryptInto(keyId, message, AAD, opened, 0);
  }
  return { cachedKeys: kms.cachedKeys };
}

/** The memory of dead buffers goes back on another thread, after the collection. */
async function memory() {
  globalThis.gc();
  await sleep(100);
  globalThis.gc();
  return { ...memoryOf(process.pid), cachedKeys: kms.cachedKeys };
}

async function rotate() {
  const { result, seconds, cpuSeconds } = await timed(() => kms.rotateKek({ wait: true }));
  const { state, done } = result;
  if (state !== 'idle') throw new Error(`the rotation ended as ${JSON.stringify(result)}`);
  return { keys: done, seconds, cpuSeconds };
}

async function close() {
  const { seconds, cpuSeconds } = await timed(() => kms.close());
  file.close();
  return { seconds, cpuSeconds };
}

answerMessages((message) => {
  if (message.fill) return fill(message.fill);
  if (message.decrypt) return decrypt(message.decrypt);
  if (message.encryptFirst) return encryptFirst(message.encryptFirst);
  if (message.touch) return touch(message.touch);
  if (message.memory) return memory();
  if (message.rotate) return rotate();
  return close();
});
