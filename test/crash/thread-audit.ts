import type { Provider } from '../../dist/provider.js';
import { envelopeAad } from '../../dist/threads/envelope.js';
import type { JobStatus } from '../../dist/threads/jobs/job.js';
import type { Message } from '../../dist/threads/thread.js';
import type { Entry, ThreadStore } from '../../dist/threads/thread-store.js';
import type { Threads } from '../../dist/threads/threads.js';
import { allVersions } from '../threads/threads-ground.js';
import { numberOf } from './thread-bodies.js';
import type { ThreadLedger } from './thread-ledger.js';

const PAGE = 1_000;

/** Where the service is after all kills, opened by the test. */
export interface Remains {
  kms: Provider;
  store: ThreadStore;
  threads: Threads;
  threadId: string;
}

/** Throws unless every message reads exactly as the ledger has it, and is in the store under the thread's key, sealed once. */
export async function auditThread(remains: Remains, ledger: ThreadLedger): Promise<number> {
  const found = await numbersOf(remains);
  const faults = ledger.faults(found);
  if (faults.length > 0) throw new Error(`${faults.length} faults: ${faults.slice(0, 5).join('; ')}`);
  const { keyId } = (await remains.threads.thread(remains.threadId)) as { keyId: string };
  const entries = await auditEntries(remains, keyId);
  const expected = [...found.values()].reduce((sum, numbers) => sum + numbers.length, 0);
  if (entries !== expected) throw new Error(`${entries} entries in the store, ${expected} messages and versions are read`);
  return entries;
}

/** What a job which is done has left: its old keys are retired, and its backups are there or not, as was ordered. */
export async function auditJob(remains: Remains, { jobId, options, oldKeyIds }: JobStatus, ledger: ThreadLedger): Promise<void> {
  const { kms, store, threads, threadId } = remains;
  const isKept = options.keepBackupsMs > 0;
  for (const { keyId, state } of (await kms.listKeys({ threadId, limit: PAGE })).keys) {
    const isPresent = keyId === (await threads.thread(threadId))?.keyId;
    const expected = isPresent ? 'active' : isKept && oldKeyIds.includes(keyId) ? 'disabled' : 'destroyed';
    if (state !== expected) throw new Error(`${isPresent ? 'the key' : 'an old key'} of the thread is ${state}, not ${expected}`);
  }
  const backups = new Set<string>();
  for await (const { key, value } of entriesBelow(store, 'backup:')) {
    if (JSON.parse(Buffer.from(value).toString('utf8')).jobId === jobId) backups.add(key);
  }
  if (!isKept && backups.size > 0) throw new Error(`${backups.size} backups of a job that keeps none`);
  if (!isKept) return;
  for (const [messageId, n] of ledger.messages) {
    const isOld = n < 0 && !ledger.isEdited(messageId);
    if (isOld && !backups.has(`backup:migrate:thread:${threadId}:msg:${messageId.slice(4)}`)) {
      throw new Error(`there is no backup of message ${messageId}`);
    }
  }
}

/** Throws for a body that nobody wrote as a whole. */
function numberIn({ messageId, body, error }: Message): number {
  if (error !== null) throw new Error(`message ${messageId} does not read: ${error.message}`);
  return numberOf(body);
}

async function numbersOf({ threads, threadId }: Remains): Promise<Map<string, number[]>> {
  const found = new Map<string, number[]>();
  for (let cursor: string | null | undefined; cursor !== null; ) {
    const page = await threads.list(threadId, { limit: PAGE, ...(cursor === undefined ? {} : { cursor }) });
    for (const message of page.messages) {
      const { messageId, editedAt } = message;
      if (found.has(messageId)) throw new Error(`message ${messageId} is listed twice`);
      const versions = editedAt === null ? [] : await allVersions(threads, threadId, messageId);
      found.set(messageId, [...versions, message].map(numberIn));
    }
    cursor = page.next;
  }
  return found;
}

async function auditEntries({ kms, store, threadId }: Remains, keyId: string): Promise<number> {
  let count = 0;
  for (const prefix of [`thread:${threadId}:msg:`, 'version:']) {
    for (let from = prefix; ; ) {
      const page = await store.range({ from, to: `${prefix}\x7f`, limit: PAGE });
      await auditPage(kms, page, threadId, keyId);
      count += page.length;
      if (page.length < PAGE) break;
      from = `${page.at(-1)?.key} `;
    }
  }
  return count;
}

/** Opens envelopes as nothing of the product does it: there must be one around each body, and none in it. */
async function auditPage(kms: Provider, page: readonly Entry[], threadId: string, keyId: string): Promise<void> {
  const stored = page.map(({ key, value }) => ({ key, ...(JSON.parse(Buffer.from(value).toString('utf8')) as Stored) }));
  for (const { key, body } of stored) {
    if (body._enc !== 'gcm1' || body.k !== keyId) throw new Error(`${key} is under ${body.k}, not under ${keyId}`);
  }
  const ciphertexts = stored.map(({ body }) => Buffer.from(body.v, 'base64'));
  const aads = stored.map(({ id }) => envelopeAad(threadId, id, []));
  const opened = await kms.decryptMany(keyId, ciphertexts, aads);
  opened.forEach((plaintext, i) => {
    if (plaintext instanceof Error) throw new Error(`${stored[i]?.key}: ${plaintext.message}`);
    numberOf(JSON.parse(Buffer.from(plaintext).toString('utf8')));
  });
}

interface Stored {
  id: string;
  body: { _enc: string; k: string; v: string };
}

export async function* entriesBelow(store: ThreadStore, prefix: string): AsyncGenerator<Entry> {
  for (let from = prefix; ; ) {
    const page = await store.range({ from, to: `${prefix}\x7f`, limit: PAGE });
    yield* page;
    if (page.length < PAGE) return;
    from = `${page.at(-1)?.key} `;
  }
}
