import { createHash, createHmac } from 'node:crypto';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openedStore } from '../secrets/opened-store.js';
import type { Place } from './subjects.js';

// Documents of a closed store, edited by who knows docs/FORMATS.md, and here and there its master key.

export interface RecordJson {
  format: number;
  store_id: string;
  key_id: string;
  thread_id: string;
  alg: string;
  state: string;
  version: number;
  wrapped: string;
  kek_id: string;
  kek_version: number;
  uses_reserved: number;
  created_at: string;
  updated_at: string;
  created_by: string;
  mac: string;
}

export interface KeyringJson {
  format: number;
  store_id: string;
  generation: number;
  slots: Array<{
    slot_id: string;
    kind: string;
    state: string;
    expires_at: string;
    salt: string;
    root: string;
    slot_key: string;
    created_at: string;
  }>;
  keks: Array<{
    kek_id: string;
    kek_version: number;
    state: string;
    wrapped: string;
    wraps_reserved: number;
    created_at: string;
  }>;
  record_mac: string;
  audit_keys: Array<{ public: string; wrapped: string; created_at: string }>;
  default_key_id: string;
  sha256: string;
  mac: string;
}

export function keyringPath(place: Place): string {
  return join(place.dataDir, 'keyring.json');
}

export function recordPath(place: Place, keyId: string): string {
  return join(place.dataDir, 'kms-deks', `${keyId}.json`);
}

export function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(path, 'utf8')) as T;
}

export function writeJson(path: string, document: unknown): void {
  writeFileSync(path, JSON.stringify(document), { mode: 0o600 });
}

export function copy(from: string, to: string): void {
  copyFileSync(from, to);
}

export function lp(fields: Array<string | number | Buffer>): Buffer {
  const parts = fields.flatMap((field) => {
    const bytes = Buffer.isBuffer(field) ? field : Buffer.from(String(field), 'utf8');
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    return [length, bytes];
  });
  return Buffer.concat(parts);
}

const raw = (base64: string) => Buffer.from(base64, 'base64');

/** The checksum anybody can make of a keyring of format 2. */
export function keyringSha256(keyring: KeyringJson): string {
  const { slots, keks, audit_keys } = keyring;
  const canonical = lp([
    'progressdb-kms/keyring/v2',
    keyring.format,
    keyring.store_id,
    keyring.generation,
    slots.length,
    ...slots.flatMap(({ slot_id, kind, state, expires_at, salt, root, slot_key, created_at }) => {
      return [slot_id, kind, state, expires_at, raw(salt), raw(root), raw(slot_key), created_at];
    }),
    keks.length,
    ...keks.flatMap((kek) => [kek.kek_id, kek.kek_version, kek.state, raw(kek.wrapped), kek.wraps_reserved, kek.created_at]),
    raw(keyring.record_mac),
    audit_keys.length,
    ...audit_keys.flatMap((key) => [raw(key.public), raw(key.wrapped), key.created_at]),
    keyring.default_key_id,
  ]);
  return createHash('sha256').update(canonical).digest('hex');
}

export function recordMac(record: RecordJson, key: Buffer): string {
  const { format, store_id, key_id, thread_id, alg, state, version, kek_id, kek_version } = record;
  const { uses_reserved, created_at, updated_at, created_by } = record;
  const canonical = lp([
    ...['progressdb-kms/record/v1', format, store_id, key_id, thread_id, alg, state, version, raw(record.wrapped)],
    ...[kek_id, kek_version, uses_reserved, created_at, updated_at, created_by],
  ]);
  return createHmac('sha256', key).update(canonical).digest('base64');
}

/** Changes a record as only who has the master key can: the MAC is that of `macsOf`'s store, its own unless told. */
export function rewriteRecord(place: Place, keyId: string, changes: Partial<RecordJson>, macsOf: Place = place): void {
  const path = recordPath(place, keyId);
  const { keys } = openedStore(macsOf.dataDir, macsOf.masterKeyFile);
  const record = { ...readJson<RecordJson>(path), ...changes };
  writeJson(path, { ...record, mac: recordMac(record, keys.get('record-mac')!) });
}
