import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { type AuditEvent, NO_AUDIT } from '../../dist/audit/audit-log.js';
import { KmsError } from '../../dist/errors.js';
import { EmbeddedKms } from '../../dist/kms/embedded.js';
import type { EmbeddedSettings } from '../../dist/kms/lifecycle.js';
import { SOFT_USES } from '../../dist/limits.js';
import type { Encrypted } from '../../dist/provider.js';
import type { KeyStore } from '../../dist/store/key-store.js';
import { openLmdbStore } from '../../dist/store/lmdb.js';
import { openMemoryStore } from '../../dist/store/memory.js';

/** Master keys of the tests, as 64 hex digits: one digit, over and over. */
export const K1 = '1'.repeat(64);
export const K2 = '2'.repeat(64);
export const K3 = '3'.repeat(64);

/** Stores that handle keys one by one, and those that take many at once. */
export const STORES: ReadonlyArray<readonly [name: string, open: (t: ExecutionContext) => Promise<KeyStore>]> = [
  ['in memory', async () => openMemoryStore()],
  [
    'in LMDB',
    async (t) => {
      const dataDir = mkdtempSync(join(tmpdir(), 'kms-test-'));
      const store = await openLmdbStore({ dataDir });
      t.teardown(async () => {
        await store.close();
        rmSync(dataDir, { recursive: true });
      });
      return store;
    },
  ],
];

/** A provider on a store that outlives it, as a disk does; closed with the test. */
export async function openOn(
  t: ExecutionContext,
  store: KeyStore,
  master: string,
  settings: Partial<EmbeddedSettings> = {},
): Promise<EmbeddedKms> {
  const kms = await EmbeddedKms.open({
    store,
    master: { kind: 'bytes', bytes: new Uint8Array(Buffer.from(master, 'hex')) },
    dataDir: null,
    openAudit: async () => NO_AUDIT,
    release: async () => {},
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
    dueDays: 365,
    databasesPerIdentity: 0,
    keysPerDatabase: 0,
    ...settings,
  });
  t.teardown(() => kms.close());
  return kms;
}

const KEYRING_AND_RECORDS = ['writeKeyring', 'createRecord', 'replaceRecord', 'replaceRecordSync'];
const PACKED = ['createMany', 'moveMany'];
const BACKUPS = ['keep', 'keepKeyring', 'drop', 'dropKeyrings', 'forget', 'setAside'];

type Method = (...args: unknown[]) => unknown;

function intercepted<T extends object>(target: T, names: string[], write: (name: string, real: () => unknown) => unknown): T {
  return new Proxy(target, {
    get(object, property: string) {
      const value = object[property as keyof T];
      if (typeof value !== 'function') return value;
      const real: Method = (...args) => (value as Method).apply(object, args);
      return names.includes(property) ? (...args: unknown[]) => write(property, () => real(...args)) : real;
    },
  });
}

/** The store with each of its writes handed to `write`, which may let it through, fail it, or both. */
export function storeWith(store: KeyStore, write: (name: string, real: () => unknown) => unknown): KeyStore {
  const backups = intercepted(store.backups, BACKUPS, write);
  const packed = store.packed && intercepted(store.packed, PACKED, write);
  const whole = intercepted(store, KEYRING_AND_RECORDS, write);
  return new Proxy(whole, {
    get: (target, property) => {
      if (property === 'backups') return backups;
      return property === 'packed' ? packed : target[property as keyof KeyStore];
    },
  });
}

export interface Crash {
  store: KeyStore;
  /** Writes that were begun, the one that crashed among them. */
  writes(): number;
}

/** A store whose process dies with its nth write, before it or after it: nothing that comes later is written. */
export function crashingAt(store: KeyStore, nth: number, isAfter: boolean): Crash {
  let writes = 0;
  const dead = () => new KmsError('STORE_UNAVAILABLE', 'the process is dead');
  const write = async (real: () => unknown) => {
    writes += 1;
    if (writes > nth || (writes === nth && !isAfter)) throw dead();
    const result = await real();
    if (writes >= nth) throw dead();
    return result;
  };
  return { store: storeWith(store, (_name, real) => write(real)), writes: () => writes };
}

export interface Sealed extends Encrypted {
  keyId: string;
  plaintext: Uint8Array;
}

/** Keys with a message each. */
export async function filled(kms: EmbeddedKms, count: number): Promise<Sealed[]> {
  return Promise.all(
    Array.from({ length: count }, async (_, index) => {
      const { keyId } = await kms.createDekForThread(`thread-${index}`);
      const plaintext = Buffer.from(`message of ${keyId}`);
      return { keyId, plaintext, ...(await kms.encryptWithDek(keyId, plaintext)) };
    }),
  );
}

export async function opensAll(
  t: ExecutionContext,
  kms: EmbeddedKms,
  messages: readonly Sealed[],
  about?: string,
): Promise<void> {
  for (const { keyId, ciphertext, plaintext } of messages) {
    const opened = await kms.decryptWithDek(keyId, ciphertext);
    t.is(Buffer.from(opened).toString(), Buffer.from(plaintext).toString(), about);
  }
}

/** Resolves when no rotation runs any more. */
export async function rotated(kms: EmbeddedKms) {
  for (;;) {
    const status = await kms.rotationStatus();
    if (status.state !== 'running') return status;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Key id and KEK version of every record. */
export async function kekVersions(store: KeyStore): Promise<Map<string, number>> {
  const versions = new Map<string, number>();
  for (const keyId of await store.listKeyIds(undefined, 10_000)) {
    versions.set(keyId, (await store.readRecord(keyId))!.kekVersion);
  }
  return versions;
}

/** An audit log that only remembers. */
export function remembered() {
  const events: AuditEvent[] = [];
  const writeAll = async (all: readonly AuditEvent[]) => void events.push(...all);
  return { events, refuseIfFailed() {}, write: (event: AuditEvent) => writeAll([event]), writeAll, note: () => {} };
}
