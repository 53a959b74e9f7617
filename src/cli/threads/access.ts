import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { STORE_FILE } from '../../threads/lmdb-store.js';
import { Failure } from '../failure.js';
import type { Output } from '../output.js';
import { type Purpose, StoreTaken } from './service.js';
import type { ThreadSettings } from './settings.js';

/** JSON as docs/THREADS.md has it. */
export type Answer = Record<string, unknown>;

/** The HTTP endpoints of threads: of a server, or of this very process, which has the store then. */
export interface ThreadsAccess {
  /** Jobs run in this process, and stop with it. */
  isOffline: boolean;
  /** Throws a Failure or a KmsError for what is refused. */
  ask(method: 'GET' | 'POST' | 'DELETE', path: string, body?: object): Promise<Answer>;
  close(): Promise<void>;
}

/**
 * On the store itself; through a server if an endpoint is named, and a store is not, or is open elsewhere. Never makes a store.
 */
export async function openThreadsAccess(settings: ThreadSettings, purpose: Purpose, output: Output): Promise<ThreadsAccess> {
  const { endpoint, store } = settings;
  if (endpoint !== undefined && store.from !== 'flag') return remote(settings, endpoint, output);
  if (!existsSync(join(store.value, STORE_FILE))) {
    throw new Failure('STORE_UNAVAILABLE', `${store.value} holds no thread store`, '--store DIR names another one');
  }
  try {
    const { openOfflineThreads } = await import('./offline.js');
    const access = await openOfflineThreads(settings, purpose);
    output.detail(`working on ${store.value} itself`);
    return access;
  } catch (error) {
    if (!(error instanceof StoreTaken) || endpoint === undefined) throw error;
    return remote(settings, endpoint, output);
  }
}

async function remote(settings: ThreadSettings, endpoint: string, output: Output): Promise<ThreadsAccess> {
  if (settings.hasNamedFields) {
    throw new Failure('USAGE', '--fields is for a store: a server encrypts what its own --fields say', 'leave it out');
  }
  const { RemoteThreads } = await import('./remote.js');
  const access = new RemoteThreads(endpoint, settings.adminTokenFile);
  output.detail(`through the server at ${access.where}`);
  return access;
}
