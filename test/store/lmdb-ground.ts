import type { ExecutionContext } from 'ava';
import type { KeyStore } from '../../dist/store/key-store.js';
import { openLmdbStore } from '../../dist/store/lmdb.js';

export async function openedLmdb(t: ExecutionContext, dataDir: string): Promise<KeyStore> {
  const store = await openLmdbStore({ dataDir });
  t.teardown(() => store.close().catch(() => {}));
  return store;
}
