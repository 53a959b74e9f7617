import { MAX_RECORD_BYTES } from '../limits.js';
import { binding } from '../native.js';
import type { KeyState } from '../provider.js';
import { canonicalRecord } from './canonical.js';
import { recordJson } from './document-json.js';
import { DamagedDocument, type KeyMeta } from './key-store.js';
import { parsed } from './parsed.js';

const MAC_BYTES = 32;
const LENGTH_BYTES = 4;
const FIELDS = 15;
const LABEL = 'progressdb-kms/record/v1';

/** A record as its canonical bytes and then its MAC. */
export function packed(meta: KeyMeta): Uint8Array {
  return Buffer.concat([canonicalRecord(meta), meta.mac]);
}

function fieldsOf(bytes: Uint8Array): Buffer[] {
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length - MAC_BYTES);
  const fields: Buffer[] = [];
  for (let at = 0; at < all.length; ) {
    if (fields.length === FIELDS || at + LENGTH_BYTES > all.length) throw new DamagedDocument('not a packed record');
    const start = at + LENGTH_BYTES;
    at = start + all.readUInt32BE(at);
    if (at > all.length) throw new DamagedDocument('a packed record that ends too early');
    fields.push(all.subarray(start, at));
  }
  if (fields.length !== FIELDS) throw new DamagedDocument('not a packed record');
  return fields;
}

/** As strict as the reader of the JSON. Throws DamagedDocument. */
export function unpacked(bytes: Uint8Array): KeyMeta {
  if (bytes.length <= MAC_BYTES || bytes.length > MAX_RECORD_BYTES) throw new DamagedDocument(`${bytes.length} bytes`);
  const fields = fieldsOf(bytes);
  const text = (index: number) => (fields[index] as Buffer).toString('utf8');
  if (text(0) !== LABEL) throw new DamagedDocument('not a packed record');
  const meta: KeyMeta = {
    format: Number(text(1)) as 1,
    storeId: text(2),
    keyId: text(3),
    threadId: text(4),
    alg: text(5) as 'A256GCM',
    state: text(6) as KeyState,
    version: Number(text(7)),
    wrapped: new Uint8Array(fields[8] as Buffer),
    kekId: text(9),
    kekVersion: Number(text(10)),
    usesReserved: Number(text(11)),
    createdAt: text(12),
    updatedAt: text(13),
    createdBy: text(14),
    mac: new Uint8Array(bytes.subarray(bytes.length - MAC_BYTES)),
  };
  const checked = parsed((meta: KeyMeta) => binding.parseRecord(recordJson(meta)), meta);
  if (Buffer.compare(packed(checked), bytes) !== 0) throw new DamagedDocument('a packed record that is not canonical');
  return checked;
}
