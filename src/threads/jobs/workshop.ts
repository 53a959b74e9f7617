import type { Compaction } from '../compaction.js';
import type { KeyProvision } from '../key-provision.js';
import type { ThreadDirectory } from '../thread-directory.js';
import type { ThreadStore } from '../thread-store.js';
import type { Backups } from './backups.js';
import type { Entries } from './entries.js';
import type { JobBook } from './job-book.js';
import type { Mover } from './mover.js';
import type { Tables } from './tables.js';

/** What the jobs of a process work with. */
export interface Workshop {
  store: ThreadStore;
  directory: ThreadDirectory;
  provision: KeyProvision;
  entries: Entries;
  mover: Mover;
  backups: Backups;
  book: JobBook;
  compaction: Compaction;
  tables: Tables;
  wait(ms: number): Promise<void>;
}
