// The process of an application that keeps a thread in LMDB and moves it to a new key. Argument: JSON of {threads, connect, store,
// messages, bodyBytes}, `threads` the path of our library of threads and `connect` what opens the key service: {library, dataDir,
// masterKeyFile} or {library, socket}. `{rotate}` moves all messages, with backups for so many milliseconds; `{close}` ends.
import { answerMessages } from './processes.js';
import { watchMemory } from './scale/memory.js';

const { threads: library, connect, store: path, messages, bodyBytes } = JSON.parse(process.argv[2]);
const { openThreads, openLmdbThreadStore } = await import(library);
const { createEmbeddedKms, connectKms } = await import(connect.library);

const THREAD = 'bench';
const APPENDED_AT_ONCE = 1_000;

const kms = connect.socket === undefined ? await createEmbeddedKms(connect) : await connectKms(connect.socket);
const store = await openLmdbThreadStore(path);
const threads = await openThreads({ kms, store });
await threads.createThread({ threadId: THREAD });
const text = 'x'.repeat(bodyBytes - JSON.stringify({ number: messages, text: '' }).length);
for (let at = 0; at < messages; at += APPENDED_AT_ONCE) {
  const count = Math.min(APPENDED_AT_ONCE, messages - at);
  await Promise.all(Array.from({ length: count }, (_, n) => threads.append(THREAD, { body: { number: at + n, text } })));
}

async function rotate(keepBackupsMs) {
  const memory = watchMemory(process.pid);
  const begun = performance.now();
  const { jobId } = await threads.rotateThreadDek(THREAD, { keepBackupsMs });
  const { state, moved } = await threads.waitForJob(jobId);
  const seconds = (performance.now() - begun) / 1000;
  memory.stop();
  if (state !== 'done' || moved !== messages) throw new Error(`the job ended as ${state}, with ${moved} of ${messages} moved`);
  return { perSecond: messages / seconds, peakBytes: memory.peak() };
}

answerMessages(async ({ rotate: keepBackupsMs, close }) => {
  if (!close) return rotate(keepBackupsMs);
  for (const one of [threads, store, kms]) await one.close();
  return { closed: true };
});
