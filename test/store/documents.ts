import { randomBytes } from 'node:crypto';
import type { KeyMeta, KeyringDocument } from '../../dist/store/key-store.js';

const TIME = '2026-01-31T12:00:00.000Z';

export function newKeyId(): string {
  return `k_${randomBytes(16).toString('hex')}`;
}

/** A record the strict reader takes; its `mac` is made up, which a store does not look at. */
export function newRecord(overrides: Partial<KeyMeta> = {}): KeyMeta {
  return {
    format: 1,
    storeId: '0123456789abcdef0123456789abcdef',
    keyId: newKeyId(),
    threadId: 'thread:1/a@b',
    alg: 'A256GCM',
    state: 'active',
    version: 1,
    wrapped: new Uint8Array(randomBytes(60)),
    kekId: `kek_${'ab'.repeat(16)}`,
    kekVersion: 1,
    usesReserved: 1024,
    createdAt: TIME,
    updatedAt: TIME,
    createdBy: 'uid:1000',
    mac: new Uint8Array(randomBytes(32)),
    ...overrides,
  };
}

export function next(record: KeyMeta, overrides: Partial<KeyMeta> = {}): KeyMeta {
  return { ...record, version: record.version + 1, ...overrides };
}

export function newKeyring(generation: number): KeyringDocument {
  const bytes = (length: number) => new Uint8Array(randomBytes(length));
  return {
    format: 2,
    storeId: '0123456789abcdef0123456789abcdef',
    generation,
    slots: [
      {
        slotId: `s_${'cd'.repeat(16)}`,
        kind: 'master',
        state: 'active',
        expiresAt: '',
        salt: bytes(32),
        root: bytes(60),
        slotKey: bytes(60),
        createdAt: TIME,
      },
    ],
    keks: [
      {
        kekId: `kek_${'ab'.repeat(16)}`,
        kekVersion: 1,
        state: 'active',
        wrapped: bytes(60),
        wrapsReserved: 16_384,
        createdAt: TIME,
      },
    ],
    recordMac: bytes(60),
    auditKeys: [{ publicKey: bytes(32), wrapped: bytes(60), createdAt: TIME }],
    defaultKeyId: '',
    sha256: bytes(32),
    mac: bytes(32),
  };
}

/** A document with its blobs as plain arrays: a store may answer with Buffers. */
export function plain<T>(value: T): T {
  if (value instanceof Uint8Array) return new Uint8Array(value) as T;
  if (Array.isArray(value)) return value.map(plain) as T;
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, plain(member)])) as T;
}
