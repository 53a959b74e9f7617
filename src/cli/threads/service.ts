import { openKms } from '../../open.js';
import type { Provider } from '../../provider.js';
import type { Threads } from '../../threads/threads.js';
import { Failure, failureOf } from '../failure.js';
import { openDaemon } from '../provider.js';
import type { ThreadSettings } from './settings.js';

/** The threads of a store, opened by this process. Whoever opened them closes them. */
export interface ThreadService {
  threads: Threads;
  kms: Provider | undefined;
  close(): Promise<void>;
}

/** What is done with them: `orders` needs no keys, and goes on with nothing that was interrupted. */
export type Purpose = 'work' | 'orders';

/** Throws CONFLICT with the path of the store while another process has that. */
export async function openThreadService(settings: ThreadSettings, purpose: Purpose): Promise<ThreadService> {
  const { openLmdbThreadStore, openThreads, Threads } = await import('../../threads/index.js');
  const store = await openLmdbThreadStore(settings.store.value).catch((error) => {
    const failure = failureOf(error);
    throw failure.code === 'CONFLICT' ? new StoreTaken(settings.store.value) : failure;
  });
  let kms: Provider | undefined;
  try {
    kms = purpose === 'work' ? await openProvider(settings) : undefined;
    const options = { store, fields: settings.fields, ...(kms !== undefined && { kms }) };
    const threads = purpose === 'work' ? await openThreads(options) : new Threads(options);
    const close = async () => {
      await threads.close();
      await store.close();
      await kms?.close();
    };
    return { threads, kms, close };
  } catch (error) {
    await store.close();
    await kms?.close();
    throw error;
  }
}

export class StoreTaken extends Failure {
  constructor(path: string) {
    const hint = '--endpoint and --admin-token-file go through the `progressdb-kms threads serve` that has it';
    super('CONFLICT', `another process has the thread store ${path} open`, hint);
  }
}

/** External mode knows no master key: one that is configured is not read. */
async function openProvider({ usesEncryption, mode, common }: ThreadSettings): Promise<Provider | undefined> {
  if (!usesEncryption) return undefined;
  if (mode === 'external') return (await openDaemon(common)).kms;
  if (common.address.from === 'flag' || common.callerFlags.length > 0) {
    throw new Failure('USAGE', 'the address of a daemon and who calls it are for PROGRESSDB_KMS_MODE=external');
  }
  try {
    return await openKms({
      PROGRESSDB_KMS_MODE: mode,
      PROGRESSDB_KMS_DATA_DIR: common.dataDir.value,
      PROGRESSDB_KMS_MASTER_KEY_FILE: common.masterKeyFile,
    });
  } catch (error) {
    const failure = failureOf(error);
    throw failure.code === 'CONFLICT'
      ? failure.with('PROGRESSDB_KMS_MODE=external goes through the daemon that has it')
      : failure;
  }
}
