import { binding } from '../native.js';
import { canonicalRecord } from './canonical.js';
import { recordJson } from './document-json.js';
import { DamagedDocument, type KeyMeta } from './key-store.js';
import { parsed } from './strict-reader.js';

const MAC_BYTES = 32;
const PREFIX = 'progressdb-kms/record/v1';
const FIELDS = 15;

/** A record as its canonical bytes and its MAC: docs/FORMATS.md. */
export function packed(meta: KeyMeta): Uint8Array {
  return Buffer.concat([canonicalRecord(meta), meta.mac]);
}

function fieldsOf(bytes: Buffer): Buffer[] {
  const fields: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    if (bytes.length - at < 4) throw new DamagedDocument('it is cut short');
    const length = bytes.readUInt32BE(at);
    at += 4;
    if (length > bytes.length - at) throw new DamagedDocument('it is cut short');
    fields.push(bytes.subarray(at, at + length));
    at += length;
  }
  return fields;
}

function number(field: Buffer): number {
  const text = field.toString('latin1');
  if (!/^(0|[1-9][0-9]{0,15})$/.test(text)) throw new DamagedDocument('a number of it is none');
  return Number(text);
}

/** Throws DamagedDocument for what the strict reader of records would not take. */
export function unpacked(bytes: Uint8Array): KeyMeta {
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (all.length < MAC_BYTES) throw new DamagedDocument('it is cut short');
  const fields = fieldsOf(all.subarray(0, -MAC_BYTES));
  const [prefix, format, storeId, keyId, threadId, alg, state, version, wrapped, kekId, kekVersion, uses, made, changed, by] =
    fields;
  if (fields.length !== FIELDS || prefix?.toString('latin1') !== PREFIX) throw new DamagedDocument('it is no packed record');
  const text = (field: Buffer | undefined) => (field as Buffer).toString('utf8');
  const meta = {
    format: number(format as Buffer),
    storeId: text(storeId),
    keyId: text(keyId),
    threadId: text(threadId),
    alg: text(alg),
    state: text(state),
    version: number(version as Buffer),
    wrapped: wrapped as Uint8Array,
    kekId: text(kekId),
    kekVersion: number(kekVersion as Buffer),
    usesReserved: number(uses as Buffer),
    createdAt: text(made),
    updatedAt: text(changed),
    createdBy: text(by),
    mac: all.subarray(-MAC_BYTES),
  } as KeyMeta;
  return parsed(binding.parseRecord, recordJson(meta));
}
