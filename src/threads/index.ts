export type { Restored } from './jobs/backups.js';
export type {
  BlockedMessage,
  Forecast,
  JobKind,
  JobOptions,
  JobPage,
  JobPhase,
  JobQuery,
  JobState,
  JobStatus,
} from './jobs/job.js';
export type { Json } from './json.js';
export type { Orphans } from './key-provision.js';
export { openLmdbThreadStore } from './lmdb-store.js';
export { openMemoryThreadStore } from './memory-store.js';
export type { Rewrapped } from './rewrap.js';
export type {
  Message,
  MessagePage,
  MessageQuery,
  NewMessage,
  NewThread,
  Thread,
  ThreadPage,
  ThreadQuery,
  VersionPage,
} from './thread.js';
export type { Entry, Expectation, RangeQuery, ThreadStore, Unit } from './thread-store.js';
export { openThreads, type Recovered, Threads, type ThreadsOptions } from './threads.js';
