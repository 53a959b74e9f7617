import { createDecipheriv, createHmac, hkdfSync } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Ground } from './ground.js';

/** Writes records as docs/FORMATS.md says, from the master key on, with nothing of the product. */

function lp(...fields: Array<string | number | Buffer>): Buffer {
  const parts = fields.map((field) => (Buffer.isBuffer(field) ? field : Buffer.from(String(field), 'utf8')));
  return Buffer.concat(parts.flatMap((part) => [Buffer.from(part.length.toString(16).padStart(8, '0'), 'hex'), part]));
}

function hkdf(key: Buffer, salt: string | Buffer, info: string): Buffer {
  return Buffer.from(hkdfSync('sha256', key, salt, info, 32));
}

function unwrap(key: Buffer, wrapped: Buffer, aad: Buffer): Buffer {
  const cipher = createDecipheriv('aes-256-gcm', key, wrapped.subarray(0, 12)).setAAD(aad).setAuthTag(wrapped.subarray(44));
  return Buffer.concat([cipher.update(wrapped.subarray(12, 44)), cipher.final()]);
}

function recordMacKey(ground: Ground): Buffer {
  const keyring = JSON.parse(readFileSync(join(ground.dataDir, 'keyring.json'), 'utf8'));
  const [slot] = keyring.slots;
  const master = Buffer.from(readFileSync(ground.keyFile, 'utf8').trim(), 'hex');
  const slotKey = hkdf(master, Buffer.from(slot.salt, 'base64'), 'progressdb-kms/slot/v1');
  const root = unwrap(slotKey, Buffer.from(slot.root, 'base64'), lp('progressdb-kms/root/v1', keyring.store_id, slot.slot_id));
  return hkdf(root, keyring.store_id, 'progressdb-kms/record-mac/v1');
}

/** Makes the record of a key count `uses`, as if that many had been reserved. Nobody may have the store open. */
export function writeUsesReserved(ground: Ground, keyId: string, uses: number): void {
  const path = join(ground.dataDir, 'kms-deks', `${keyId}.json`);
  const { mac: _mac, ...record } = JSON.parse(readFileSync(path, 'utf8'));
  const next = { ...record, version: record.version + 1, uses_reserved: uses };
  const canonical = lp(
    'progressdb-kms/record/v1',
    ...[next.format, next.store_id, next.key_id, next.thread_id, next.alg, next.state, next.version],
    Buffer.from(next.wrapped, 'base64'),
    ...[next.kek_id, next.kek_version, next.uses_reserved, next.created_at, next.updated_at, next.created_by],
  );
  const mac = createHmac('sha256', recordMacKey(ground)).update(canonical).digest('base64');
  writeFileSync(path, JSON.stringify({ ...next, mac }));
}
