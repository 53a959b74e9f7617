import { createHash, randomBytes } from 'node:crypto';
import { KmsError } from '../errors.js';
import { FIRST_WRAP_BLOCK, LAST_WRAP_BLOCK, MAX_USES } from '../limits.js';
import { canonicalKeyring, kekAad, recordMacAad, rootAad, slotKeyAad } from '../store/canonical.js';
import { DamagedDocument, type KeyringDocument, type KeyringKek, type KeyringSlot, type KeyStore } from '../store/key-store.js';
import type { Handle, Vault } from '../vault.js';

const SLOT_INFO = 'progressdb-kms/slot/v1';
const KEYRING_MAC_INFO = 'progressdb-kms/keyring-mac/v1';
const RECORD_MAC_INFO = 'progressdb-kms/record-mac/v1';

/** The keys that an open keyring holds in the vault. */
interface RootKeys {
  root: Handle;
  keyringMac: Handle;
  recordMac: Handle;
}

export interface ActiveKek {
  kekId: string;
  kekVersion: number;
  handle: Handle;
}

type Draft = Omit<KeyringDocument, 'sha256' | 'mac'>;

function now(): string {
  return new Date().toISOString();
}

/**
 * The record MAC key was derived from the first root key, and is carried from one root key to the next: a new root key would
 * otherwise have every record written again. Format 1 does not hold it.
 */
function rootKeys(vault: Vault, root: Handle, storeId: string, wrappedRecordMac?: Uint8Array): RootKeys {
  const salt = Buffer.from(storeId, 'utf8');
  return {
    root,
    keyringMac: vault.derive(root, salt, KEYRING_MAC_INFO, 'mac'),
    recordMac:
      wrappedRecordMac === undefined
        ? vault.derive(root, salt, RECORD_MAC_INFO, 'mac')
        : vault.unwrap(root, wrappedRecordMac, recordMacAad(storeId), 'mac'),
  };
}

function sealDocument(vault: Vault, keys: RootKeys, draft: Draft): KeyringDocument {
  const canonical = canonicalKeyring(draft);
  return { ...draft, sha256: createHash('sha256').update(canonical).digest(), mac: vault.mac(keys.keyringMac, canonical) };
}

function makeSlot(vault: Vault, master: Handle, root: Handle, storeId: string): KeyringSlot {
  const slotId = `s_${randomBytes(16).toString('hex')}`;
  const salt = randomBytes(32);
  const slotKey = vault.derive(master, salt, SLOT_INFO, 'slot');
  try {
    return {
      slotId,
      kind: 'master',
      state: 'active',
      expiresAt: '',
      salt,
      root: vault.wrap(slotKey, root, rootAad(storeId, slotId)),
      slotKey: vault.wrap(root, slotKey, slotKeyAad(storeId, slotId)),
      createdAt: now(),
    };
  } finally {
    vault.release(slotKey);
  }
}

/** The root key by the first slot the master key opens; UNAUTHENTICATED if it opens none. */
function openSlots(vault: Vault, master: Handle, document: KeyringDocument): Handle {
  for (const slot of document.slots) {
    const slotKey = vault.derive(master, slot.salt, SLOT_INFO, 'slot');
    try {
      return vault.unwrap(slotKey, slot.root, rootAad(document.storeId, slot.slotId), 'root');
    } catch (error) {
      if (!(error instanceof KmsError && error.code === 'AUTHENTICATION_FAILED')) throw error;
    } finally {
      vault.release(slotKey);
    }
  }
  throw new KmsError('UNAUTHENTICATED', 'the master key opens no slot of this keyring');
}

/** The keyring of a store, undefined if it has none; a document that cannot be read is one clear STORE_UNAVAILABLE. */
export async function readKeyring(store: KeyStore): Promise<KeyringDocument | undefined> {
  let document: KeyringDocument | undefined;
  try {
    document = await store.readKeyring();
  } catch (cause) {
    if (!(cause instanceof DamagedDocument)) throw cause;
    const newer = cause.cause instanceof KmsError && cause.cause.code === 'UNSUPPORTED';
    if (newer) throw new KmsError('UNSUPPORTED', `the keyring: ${cause.message}`, { cause });
    throw new KmsError('STORE_UNAVAILABLE', `the keyring is damaged: ${cause.message}`, { cause });
  }
  if (document === undefined) return undefined;
  const sha256 = createHash('sha256').update(canonicalKeyring(document)).digest();
  if (!sha256.equals(document.sha256))
    throw new KmsError('STORE_UNAVAILABLE', 'the keyring is damaged: its checksum does not match');
  return document;
}

/**
 * The open keyring: the wrapped keys as a document, the unwrapped ones in the vault. Writes are one after the other; each
 * replaces the whole document atomically, so that a crash leaves the one before or the one after.
 */
export class Keyring {
  readonly #vault: Vault;
  readonly #store: KeyStore;
  readonly #keys: RootKeys;
  readonly #keks = new Map<string, Handle>();
  #document: KeyringDocument;
  #lastWrite: Promise<unknown> = Promise.resolve();
  #wrapsLeft = 0;
  #wrapBlock = FIRST_WRAP_BLOCK;
  #reserving: Promise<void> | undefined;

  private constructor(vault: Vault, store: KeyStore, keys: RootKeys, document: KeyringDocument) {
    this.#vault = vault;
    this.#store = store;
    this.#keys = keys;
    this.#document = document;
  }

  /** Makes the first keyring of a store: one slot, a root key, KEK version 1. Durable when it resolves. */
  static async create(vault: Vault, store: KeyStore, master: Handle): Promise<Keyring> {
    const storeId = randomBytes(16).toString('hex');
    const keys = rootKeys(vault, vault.generate('root'), storeId);
    const kekId = `kek_${randomBytes(16).toString('hex')}`;
    const kek = vault.generate('kek');
    const draft: Draft = {
      format: 2,
      storeId,
      generation: 1,
      slots: [makeSlot(vault, master, keys.root, storeId)],
      keks: [
        {
          kekId,
          kekVersion: 1,
          state: 'active',
          wrapped: vault.wrap(keys.root, kek, kekAad(storeId, kekId, 1)),
          wrapsReserved: 0,
          createdAt: now(),
        },
      ],
      recordMac: vault.wrap(keys.root, keys.recordMac, recordMacAad(storeId)),
      auditKeys: [],
      defaultKeyId: '',
    };
    const document = sealDocument(vault, keys, draft);
    await store.writeKeyring(document);
    const keyring = new Keyring(vault, store, keys, document);
    keyring.#keks.set(kekId, kek);
    return keyring;
  }

  /** Opens a document that `readKeyring` gave. Throws UNAUTHENTICATED for a wrong master key, STORE_UNAVAILABLE if it was tampered with. */
  static open(vault: Vault, store: KeyStore, master: Handle, document: KeyringDocument): Keyring {
    const root = openSlots(vault, master, document);
    const keys = rootKeys(vault, root, document.storeId, document.format === 1 ? undefined : document.recordMac);
    if (!vault.macMatches(keys.keyringMac, canonicalKeyring(document), document.mac)) {
      throw new KmsError('STORE_UNAVAILABLE', 'the keyring was tampered with: its authentication code does not match');
    }
    const keyring = new Keyring(vault, store, keys, document);
    for (const kek of document.keks) {
      const aad = kekAad(document.storeId, kek.kekId, kek.kekVersion);
      keyring.#keks.set(kek.kekId, vault.unwrap(root, kek.wrapped, aad, 'kek'));
    }
    return keyring;
  }

  get storeId(): string {
    return this.#document.storeId;
  }

  get recordMac(): Handle {
    return this.#keys.recordMac;
  }

  get defaultKeyId(): string {
    return this.#document.defaultKeyId;
  }

  #activeDocument(): KeyringKek {
    const active = this.#document.keks.find((kek) => kek.state === 'active');
    if (active === undefined) throw new KmsError('STORE_UNAVAILABLE', 'the keyring has no active KEK');
    return active;
  }

  /** The KEK that a record names; STORE_UNAVAILABLE if it is gone. */
  kek(kekId: string): Handle {
    const handle = this.#keks.get(kekId);
    if (handle === undefined) throw new KmsError('STORE_UNAVAILABLE', 'the record names a KEK that the keyring does not hold');
    return handle;
  }

  /** The active KEK with one wrap counted against its nonce limit (NIST SP 800-38D, section 8.3). */
  async takeWrap(): Promise<ActiveKek> {
    while (this.#wrapsLeft === 0) {
      this.#reserving ??= this.#reserveWraps().finally(() => {
        this.#reserving = undefined;
      });
      await this.#reserving;
    }
    this.#wrapsLeft -= 1;
    const { kekId, kekVersion } = this.#activeDocument();
    return { kekId, kekVersion, handle: this.kek(kekId) };
  }

  async #reserveWraps(): Promise<void> {
    const block = this.#wrapBlock;
    await this.#write((draft) => {
      const active = this.#activeDocument();
      if (active.wrapsReserved + block > MAX_USES) throw new KmsError('KEY_EXHAUSTED', 'the KEK needs a rotation');
      const keks = draft.keks.map((kek) => (kek === active ? { ...kek, wrapsReserved: kek.wrapsReserved + block } : kek));
      return { ...draft, keks };
    });
    this.#wrapsLeft += block;
    this.#wrapBlock = Math.min(block * 2, LAST_WRAP_BLOCK);
  }

  /** Resolves when no write is under way any more. */
  async settled(): Promise<void> {
    await this.#lastWrite;
  }

  async setDefaultKey(keyId: string): Promise<void> {
    await this.#write((draft) => ({ ...draft, defaultKeyId: keyId }));
  }

  #newest(draft: Draft): Draft {
    if (draft.format === 2) return draft;
    const { root, recordMac } = this.#keys;
    return { ...draft, format: 2, recordMac: this.#vault.wrap(root, recordMac, recordMacAad(draft.storeId)) };
  }

  #write(change: (draft: Draft) => Draft): Promise<void> {
    const write = this.#lastWrite.then(async () => {
      const { sha256: _sha256, mac: _mac, ...draft } = this.#document;
      const next = sealDocument(this.#vault, this.#keys, { ...this.#newest(change(draft)), generation: draft.generation + 1 });
      await this.#store.writeKeyring(next);
      this.#document = next;
    });
    this.#lastWrite = write.catch(() => undefined);
    return write;
  }
}
