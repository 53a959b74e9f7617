import { createHash } from 'node:crypto';
import type { KeyMeta, KeyStore } from '../../dist/store/key-store.js';
import { packed } from '../../dist/store/packed.js';
import { newRecord } from './documents.js';

export const ROTATION = 'r2-0123456789abcdef';
/** Versions of a key that a load writes, each by another call. */
export const VERSIONS = 4;

/** What a load writes as this version of a key: whoever reads it can tell whether it is whole. */
export function recordAt(keyId: string, version: number): KeyMeta {
  const digest = (what: string) => createHash('sha512').update(`${keyId} ${version} ${what}`).digest();
  const wrapped = new Uint8Array(digest('wrapped').subarray(0, 60));
  return newRecord({
    keyId,
    version,
    usesReserved: 1_024 * version,
    wrapped,
    mac: new Uint8Array(digest('mac').subarray(0, 32)),
  });
}

/** Brings a key from the version before to this one. */
export async function write(store: KeyStore, keyId: string, version: number): Promise<void> {
  const after = recordAt(keyId, version);
  if (version === 1) return void (await store.packed?.createMany([{ keyId, bytes: packed(after) }]));
  if (version === 2) return await store.replaceRecord(after);
  if (version === 3) return store.replaceRecordSync(after);
  const moves = [{ keyId, before: packed(recordAt(keyId, version - 1)), after: packed(after) }];
  const [isMoved] = (await store.packed?.moveMany(ROTATION, moves)) ?? [];
  if (isMoved !== true) throw new Error(`${keyId} was not moved`);
}

/** What is wrong with the store after a process was told of these versions and killed. */
export async function faultsOf(store: KeyStore, told: ReadonlyMap<string, number>): Promise<string[]> {
  const faults: string[] = [];
  for (const keyId of await idsOf(store)) {
    const found = (await store.readRecord(keyId)) as KeyMeta;
    if (!isSame(found, recordAt(keyId, found.version))) faults.push(`${keyId}: torn`);
    const { version } = found;
    if (version > (told.get(keyId) ?? 0) + 1) faults.push(`${keyId}: ${told.get(keyId)} told, ${version} found`);
    const backup = await store.backups.read(ROTATION, keyId);
    const isKept = version < VERSIONS ? backup === undefined : backup !== undefined && isSame(backup, recordAt(keyId, 3));
    if (!isKept) faults.push(`${keyId}: version ${version}, and a backup of ${backup?.version}`);
  }
  for (const [keyId, version] of told) {
    const found = (await store.readRecord(keyId))?.version ?? 0;
    if (found < version) faults.push(`${keyId}: ${version} told, ${found} found`);
  }
  return faults;
}

function isSame(found: KeyMeta, expected: KeyMeta): boolean {
  return Buffer.compare(packed(found), packed(expected)) === 0;
}

async function idsOf(store: KeyStore): Promise<string[]> {
  const ids: string[] = [];
  for (let page = await store.listKeyIds(undefined, 1_000); page.length > 0; page = await store.listKeyIds(ids.at(-1), 1_000)) {
    ids.push(...page);
  }
  return ids;
}
