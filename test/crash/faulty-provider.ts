import type { ExecutionContext } from 'ava';
import type { EmbeddedKms } from '../../dist/create.js';
import { EmbeddedKms as Embedded } from '../../dist/kms/embedded.js';
import { SOFT_USES } from '../../dist/limits.js';
import type { FileSystem } from '../../dist/store/file-system.js';
import { openFileStore } from '../../dist/store/files.js';
import { type Call, interceptedFileSystem, systemError } from '../store/intercepted.js';
import type { Ground } from './ground.js';

/** The embedded provider on a store whose system calls go through `fileSystem`. */
export async function embeddedThrough(fileSystem: FileSystem, ground: Ground): Promise<EmbeddedKms> {
  const store = await openFileStore({ dataDir: ground.dataDir, fileSystem });
  return Embedded.open({
    store,
    master: { kind: 'file', path: ground.keyFile, mayBeGroupReadable: false },
    dataDir: ground.dataDir,
    release: () => store.close(),
    arena: { arenaBytes: 1024 * 1024, keptContexts: 64 },
    cachedKeys: 1_000,
    contextIdleMs: 0,
    keyIdleMs: 0,
    initialise: true,
    strict: false,
    exposeRawKeys: false,
    defaultKeySoftUses: SOFT_USES,
  });
}

export interface Faulty {
  kms: EmbeddedKms;
  calls: Call[];
  /** The errno that a call fails with, undefined for none. */
  fails: (call: Call, index: number) => string | undefined;
}

export async function faultyProvider(t: ExecutionContext, ground: Ground): Promise<Faulty> {
  const faulty: Omit<Faulty, 'kms'> = { calls: [], fails: () => undefined };
  const fileSystem = interceptedFileSystem((call, proceed) => {
    const errno = faulty.fails(call, faulty.calls.length);
    faulty.calls.push(call);
    if (errno !== undefined) throw systemError(errno, call.op);
    return proceed();
  });
  const kms = await embeddedThrough(fileSystem, ground);
  t.teardown(() => kms.close());
  return Object.assign(faulty, { kms });
}
