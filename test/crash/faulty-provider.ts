import type { ExecutionContext } from 'ava';
import { NO_AUDIT } from '../../dist/audit/audit-log.js';
import { type Audited, type AuditSettings, ChainedLog } from '../../dist/audit/chained-log.js';
import type { EmbeddedKms } from '../../dist/create.js';
import { EmbeddedKms as Embedded } from '../../dist/kms/embedded.js';
import type { EmbeddedSettings } from '../../dist/kms/lifecycle.js';
import { SOFT_USES } from '../../dist/limits.js';
import type { FileSystem } from '../../dist/store/file-system.js';
import { openFileStore } from '../../dist/store/files.js';
import type { Vault } from '../../dist/vault.js';
import { type Call, interceptedFileSystem, systemError } from '../store/intercepted.js';
import type { Ground } from './ground.js';

const AUDIT: AuditSettings = {
  dataOperations: 'off',
  continueOnFailure: false,
  acceptRollback: false,
  maxFileBytes: 2 ** 30,
  version: '0.0.0',
  actor: 'uid:0',
};

/** Opens audit logs on `fileSystem`. */
export function auditThrough(fileSystem: FileSystem, audit: Partial<AuditSettings>) {
  return (dataDir: string, vault: Vault, keyring: Audited) =>
    ChainedLog.open(fileSystem, dataDir, vault, keyring, { ...AUDIT, ...audit });
}

/** The embedded provider on a store whose system calls go through `fileSystem`, and those of its audit log if it has one. */
export async function embeddedThrough(
  fileSystem: FileSystem,
  ground: Ground,
  audit?: Partial<AuditSettings>,
): Promise<EmbeddedKms> {
  const openAudit: EmbeddedSettings['openAudit'] = async ({ vault, keyring }) =>
    audit === undefined ? NO_AUDIT : auditThrough(fileSystem, audit)(ground.dataDir, vault, keyring);
  const store = await openFileStore({ dataDir: ground.dataDir, fileSystem });
  return Embedded.open({
    store,
    master: { kind: 'file', path: ground.keyFile, mayBeGroupReadable: false },
    dataDir: ground.dataDir,
    openAudit,
    release: () => store.close(),
    arena: { arenaBytes: 1024 * 1024, keptContexts: 64 },
    cachedKeys: 1_000,
    contextIdleMs: 0,
    keyIdleMs: 0,
    initialise: true,
    strict: false,
    exposeRawKeys: false,
    defaultKeySoftUses: SOFT_USES,
    inspect: false,
    keepBackups: 1,
    keysPerSecond: 0,
    dueDays: 0,
    databasesPerIdentity: 0,
    keysPerDatabase: 0,
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
