import { createDecipheriv, createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * A reader of docs/FORMATS.md that shares nothing with the product: it knows every key of a store whose master key it has, so
 * that the tests can look for them.
 */
export interface OpenedStore {
  /** master, slot, root, kek, record-mac, keyring-mac. */
  keys: Map<string, Buffer>;
  /** By key id; destroyed ones have none. */
  deks: Map<string, Buffer>;
  /** Every wrapped key of keyring and records, by where it stands. */
  wrapped: Map<string, Buffer>;
}

interface KeyringJson {
  format: number;
  store_id: string;
  slots: Array<{ slot_id: string; salt: string; root: string; slot_key: string }>;
  keks: Array<{ kek_id: string; kek_version: number; wrapped: string }>;
  /** Not in format 1. */
  record_mac?: string;
}

interface RecordJson {
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

function lp(...fields: Array<string | number | Buffer>): Buffer {
  return Buffer.concat(
    fields.flatMap((field) => {
      const bytes = Buffer.isBuffer(field) ? field : Buffer.from(String(field), 'utf8');
      const length = Buffer.alloc(4);
      length.writeUInt32BE(bytes.length);
      return [length, bytes];
    }),
  );
}

function unwrap(under: Buffer, wrapped: Buffer, aad: Buffer): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', under, wrapped.subarray(0, 12), { authTagLength: 16 });
  decipher.setAAD(aad);
  decipher.setAuthTag(wrapped.subarray(44));
  return Buffer.concat([decipher.update(wrapped.subarray(12, 44)), decipher.final()]);
}

function hkdf(key: Buffer, salt: Buffer | string, info: string): Buffer {
  return Buffer.from(hkdfSync('sha256', key, salt, info, 32));
}

export function readMasterKey(masterKeyFile: string): Buffer {
  const key = Buffer.from(readFileSync(masterKeyFile, 'utf8').trim(), 'hex');
  if (key.length !== 32) throw new Error('the test made no such key file');
  return key;
}

function recordMac({ format, store_id, record_mac }: KeyringJson, root: Buffer): Buffer {
  if (format === 1) return hkdf(root, store_id, 'progressdb-kms/record-mac/v1');
  return unwrap(root, Buffer.from(record_mac!, 'base64'), lp('progressdb-kms/record-mac-key/v1', store_id));
}

/** Throws if anything is not as docs/FORMATS.md says. Of slots and KEKs it takes the first. */
export function openedStore(dataDir: string, masterKeyFile: string): OpenedStore {
  const master = readMasterKey(masterKeyFile);
  const keyring = JSON.parse(readFileSync(join(dataDir, 'keyring.json'), 'utf8')) as KeyringJson;
  const { store_id: storeId } = keyring;
  const slot = keyring.slots[0]!;
  const kek = keyring.keks[0]!;
  const wrapped = new Map([
    ['root', Buffer.from(slot.root, 'base64')],
    ['slot', Buffer.from(slot.slot_key, 'base64')],
    ['kek', Buffer.from(kek.wrapped, 'base64')],
  ]);
  const slotKey = hkdf(master, Buffer.from(slot.salt, 'base64'), 'progressdb-kms/slot/v1');
  const root = unwrap(slotKey, wrapped.get('root')!, lp('progressdb-kms/root/v1', storeId, slot.slot_id));
  if (!unwrap(root, wrapped.get('slot')!, lp('progressdb-kms/slot-key/v1', storeId, slot.slot_id)).equals(slotKey)) {
    throw new Error('the slot key is another one than the root key wraps');
  }
  const keys = new Map([
    ['master', master],
    ['slot', slotKey],
    ['root', root],
    ['kek', unwrap(root, wrapped.get('kek')!, lp('progressdb-kms/kek/v1', storeId, kek.kek_id, kek.kek_version))],
    ['record-mac', recordMac(keyring, root)],
    ['keyring-mac', hkdf(root, storeId, 'progressdb-kms/keyring-mac/v1')],
  ]);
  const deks = new Map<string, Buffer>();
  for (const file of readdirSync(join(dataDir, 'kms-deks'))) {
    const record = JSON.parse(readFileSync(join(dataDir, 'kms-deks', file), 'utf8')) as RecordJson;
    if (record.state === 'destroyed') continue;
    const blob = Buffer.from(record.wrapped, 'base64');
    wrapped.set(record.key_id, blob);
    deks.set(record.key_id, openedRecord(record, blob, keys));
  }
  return { keys, deks, wrapped };
}

function openedRecord(record: RecordJson, blob: Buffer, keys: Map<string, Buffer>): Buffer {
  const { format, store_id, key_id, thread_id, alg, state, version, kek_id, kek_version } = record;
  const { uses_reserved, created_at, updated_at, created_by } = record;
  const known = lp('progressdb-kms/record/v1', format, store_id, key_id, thread_id, alg, state, version, blob);
  const rest = lp(kek_id, kek_version, uses_reserved, created_at, updated_at, created_by);
  const mac = createHmac('sha256', keys.get('record-mac')!).update(known).update(rest).digest();
  if (!timingSafeEqual(mac, Buffer.from(record.mac, 'base64'))) throw new Error(`the MAC of ${key_id} does not match`);
  const aad = lp('progressdb-kms/dek/v1', store_id, key_id, thread_id, alg, created_at, created_by, kek_id, kek_version);
  return unwrap(keys.get('kek')!, blob, aad);
}
