import { binding } from '../native.js';
import { canonicalRecord } from './canonical.js';
import { readable, strictly } from './documents.js';
import type { KeyMeta } from './key-store.js';

/** A record as its canonical bytes and its MAC: docs/FORMATS.md. INTERNAL for one that could not be read back. */
export function packed(meta: KeyMeta): Uint8Array {
  return readable(binding.unpackRecord, Buffer.concat([canonicalRecord(meta), meta.mac]));
}

/** Throws DamagedDocument. The MAC is not checked. */
export function unpacked(bytes: Uint8Array): KeyMeta {
  return strictly(binding.unpackRecord, bytes);
}
