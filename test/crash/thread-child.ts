import { writeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { connectKms } from '../../dist/client/index.js';
import { KmsError } from '../../dist/errors.js';
import type { Provider } from '../../dist/provider.js';
import { openLmdbThreadStore } from '../../dist/threads/lmdb-store.js';
import type { ThreadStore } from '../../dist/threads/thread-store.js';
import { openThreads, Threads } from '../../dist/threads/threads.js';
import { embeddedOn } from './ground.js';
import { bodyOf, numberOf } from './thread-bodies.js';

/**
 * A service that rotates a thread's key, over and over, and writes and lists it meanwhile, until it is killed; on SIGTERM it lets
 * the job end. What it tells, it tells by blocking writes: a line that went out is an acknowledgement.
 */

const WRITERS = 8;
const EDITED_SHARE = 0.7;
const LONGEST_PAUSE_MS = 10;
/** Writers do not wait until a daemon is back. */
const HASTE_MS = 200;
const AWAY = new Set(['STORE_UNAVAILABLE', 'DEADLINE_EXCEEDED']);

const [storePath, dataDir, keyFile, socket, threadId, numbers, job] = process.argv.slice(2) as string[];
const options = JSON.parse(job as string) as { messagesPerSecond: number; concurrency: number; keepBackupsMs: number };
let isOver = false;
let next = Number(numbers);
process.once('SIGTERM', () => {
  isOver = true;
});

function say(...words: Array<string | number>): void {
  writeSync(1, `${words.join(' ')}\n`);
}

/** Tells of a job's phase before it is durable. */
function telling(store: ThreadStore): ThreadStore {
  let phase = '';
  const commit: ThreadStore['commit'] = (units) => {
    for (const { key, value } of units.flatMap(({ put }) => put)) {
      if (!key.startsWith('job:entry:')) continue;
      const job = JSON.parse(Buffer.from(value).toString('utf8')) as { state: string; phase: string };
      const now = job.state === 'running' ? job.phase : job.state;
      if (now !== phase) say('phase', now);
      phase = now;
    }
    return store.commit(units);
  };
  return new Proxy(store, {
    get(_, name) {
      const member = name === 'commit' ? commit : store[name as keyof ThreadStore];
      return typeof member === 'function' ? member.bind(store) : member;
    },
  });
}

/** False where the key service was away. */
async function unlessAway(work: () => Promise<void>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    if (socket === '' || !(error instanceof KmsError) || !AWAY.has(error.code)) throw error;
    await delay(LONGEST_PAUSE_MS);
    return false;
  }
}

async function append(threads: Threads): Promise<string | undefined> {
  const n = next++;
  let messageId: string | undefined;
  say('will', n);
  const isMade = await unlessAway(async () => {
    ({ messageId } = await threads.append(threadId as string, { body: bodyOf(n) }));
    say('made', n, messageId);
  });
  if (!isMade) say('lost', n);
  return messageId;
}

async function edit(threads: Threads, messageId: string): Promise<void> {
  const n = next++;
  say('edit', n, messageId);
  const isMade = await unlessAway(async () => {
    await threads.edit(threadId as string, messageId, bodyOf(n));
    say('edited', n);
  });
  if (!isMade) say('lost', n);
}

/** One edit of a message at a time: `free` has those that nobody else edits. */
async function writes(threads: Threads, free: string[]): Promise<void> {
  while (!isOver) {
    const at = Math.floor(Math.random() * free.length);
    const [messageId] = Math.random() < EDITED_SHARE ? free.splice(at, 1) : [];
    if (messageId === undefined) {
      const made = await append(threads);
      if (made !== undefined) free.push(made);
    } else {
      await edit(threads, messageId);
      free.push(messageId);
    }
    await delay(Math.random() * LONGEST_PAUSE_MS);
  }
}

async function lists(threads: Threads, free: string[]): Promise<void> {
  for (let isFirst = true; !isOver; isFirst = false) {
    for (let cursor: string | null | undefined; cursor !== null && !isOver; ) {
      const query = { limit: 200, ...(cursor === undefined ? {} : { cursor }) };
      await unlessAway(async () => {
        const page = await threads.list(threadId as string, query);
        for (const { messageId, body, error } of page.messages) {
          if (error !== null) throw new Error(`message ${messageId} is listed with ${error.message}`);
          numberOf(body);
          // What was there before is edited, too.
          if (isFirst && Math.random() < 0.01) free.push(messageId);
        }
        say('listed', page.messages.length);
        cursor = page.next;
      });
      await delay(Math.random() * LONGEST_PAUSE_MS);
    }
  }
}

async function rotates(threads: Threads): Promise<void> {
  for (;;) {
    const running = (await threads.jobs({ reverse: true })).jobs.find(({ state }) => state === 'running');
    if (running === undefined && isOver) return;
    const { jobId } = running ?? (await threads.rotateThreadDek(threadId as string, options));
    say('rotating', jobId);
    const { state, error, blockedBy } = await threads.waitForJob(jobId);
    if (state !== 'done') throw new Error(`the job is ${state}: ${error}, ${JSON.stringify(blockedBy)}`);
    say('rotated', jobId);
  }
}

async function provider(more: { deadlineMs?: number }): Promise<Provider & { close(): void | Promise<void> }> {
  if (socket !== '') return connectKms({ socket: socket as string, ...more });
  return embeddedOn({ directory: '', dataDir: dataDir as string, keyFile: keyFile as string, socket: '' });
}

const kms = await provider({});
const hasty = socket === '' ? kms : await provider({ deadlineMs: HASTE_MS });
const store = telling(await openLmdbThreadStore(storePath as string));
const threads = await openThreads({ kms, store });
const writing = new Threads({ kms: hasty, store });
say('ready');
const free: string[] = [];
await Promise.all([rotates(threads), lists(threads, free), ...Array.from({ length: WRITERS }, () => writes(writing, free))]);
await threads.close();
await store.close();
await hasty.close();
await kms.close();
