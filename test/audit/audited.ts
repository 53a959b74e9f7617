import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { type AuditSettings, ChainedLog } from '../../dist/audit/chained-log.js';
import { EmbeddedKms } from '../../dist/kms/embedded.js';
import { SOFT_USES } from '../../dist/limits.js';
import { type FileSystem, nodeFileSystem } from '../../dist/store/file-system.js';
import { openFileStore } from '../../dist/store/files.js';
import { type Ground, newGround, removeGround } from '../crash/ground.js';

export interface AuditedOptions {
  fileSystem?: FileSystem;
  audit?: Partial<AuditSettings>;
  onRelease?: () => void;
  onLog?: (log: ChainedLog) => void;
}

/** An event of the log: what every line has, and what is special to its type. */
export type Line = Record<string, unknown> & { seq: number; type: string; actor: string };

const SETTINGS: AuditSettings = {
  dataOperations: 'off',
  continueOnFailure: false,
  acceptRollback: false,
  maxFileBytes: 2 ** 30,
  version: '0.0.0',
  actor: 'uid:0',
};

/** A place for a store, which goes with the test. */
export function newGroundOf(t: ExecutionContext): Ground {
  const ground = newGround();
  t.teardown(() => removeGround(ground));
  return ground;
}

/** The embedded provider with a log whose system calls go through `fileSystem`; those of the store do not. */
export async function auditedKms(t: ExecutionContext, ground: Ground, options: AuditedOptions = {}): Promise<EmbeddedKms> {
  const { fileSystem = nodeFileSystem, audit = {}, onRelease, onLog } = options;
  const store = await openFileStore({ dataDir: ground.dataDir });
  const settings = { ...SETTINGS, ...audit };
  try {
    const kms = await EmbeddedKms.open({
      store,
      master: { kind: 'file', path: ground.keyFile, mayBeGroupReadable: false },
      dataDir: ground.dataDir,
      openAudit: async ({ vault, keyring }) => {
        const log = await ChainedLog.open(fileSystem, ground.dataDir, vault, keyring, settings);
        onLog?.(log);
        return log;
      },
      release: async () => {
        await store.close();
        onRelease?.();
      },
      arena: { arenaBytes: 1024 * 1024, keptContexts: 64 },
      cachedKeys: 1_000,
      contextIdleMs: 0,
      keyIdleMs: 0,
      initialise: true,
      strict: false,
      inspect: false,
      keepBackups: 1,
      keysPerSecond: 0,
      dueDays: 0,
      databasesPerIdentity: 0,
      keysPerDatabase: 0,
      exposeRawKeys: false,
      defaultKeySoftUses: SOFT_USES,
    });
    t.teardown(() => kms.close());
    return kms;
  } catch (error) {
    await store.close();
    throw error;
  }
}

export function linesOf({ dataDir }: Ground, name = 'kms-audit.log'): Line[] {
  const text = readFileSync(join(dataDir, name), 'utf8').trimEnd();
  return text.split('\n').map((line) => (JSON.parse(line) as { event: Line }).event);
}

export function typesOf(ground: Ground): string[] {
  return linesOf(ground).map(({ type }) => type);
}
