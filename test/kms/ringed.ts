import { randomBytes } from 'node:crypto';
import type { ExecutionContext } from 'ava';
import { canonicalRecord, dekAad } from '../../dist/store/canonical.js';
import type { KeyMeta } from '../../dist/store/key-store.js';
import { packed } from '../../dist/store/packed.js';
import { type Handle, Vault } from '../../dist/vault.js';
import { newRecord } from '../store/documents.js';

export interface Ringed {
  vault: Vault;
  storeId: string;
  recordMac: Handle;
  keks: Array<[kekId: string, kekVersion: number, kek: Handle]>;
  /** A record as the TypeScript code makes it, its key under the KEK that it names. */
  record(dek: Handle, overrides?: Partial<KeyMeta>): KeyMeta;
  /** The same, with a MAC that is right, of whatever is in it. */
  sealed(meta: KeyMeta): Uint8Array;
}

/** A vault whose space has a ring of two KEKs: the second is the older one. */
export function ringed(t: ExecutionContext, cachedKeys = 64): Ringed {
  const vault = Vault.open({ arenaBytes: 262_144, keptContexts: 64 }, cachedKeys);
  t.teardown(() => vault.close());
  const storeId = randomBytes(16).toString('hex');
  const recordMac = vault.generate('mac');
  const kekId = () => `kek_${randomBytes(16).toString('hex')}`;
  const keks: Ringed['keks'] = [
    [kekId(), 2, vault.generate('kek')],
    [kekId(), 1, vault.generate('kek')],
  ];
  vault.setRing(storeId, recordMac, keks);
  const macked = (meta: KeyMeta): KeyMeta => ({ ...meta, mac: vault.mac(recordMac, canonicalRecord(meta)) });
  const record = (dek: Handle, overrides: Partial<KeyMeta> = {}): KeyMeta => {
    const [id, version] = keks[0]!;
    const meta = newRecord({ storeId, kekId: id, kekVersion: version, ...overrides });
    const under = keks.find(([one]) => one === meta.kekId)![2];
    const wrapped = meta.state === 'destroyed' ? new Uint8Array(0) : vault.wrap(under, dek, dekAad(meta));
    return macked({ ...meta, wrapped, ...overrides });
  };
  return { vault, storeId, recordMac, keks, record, sealed: (meta) => packed(macked(meta)) };
}
