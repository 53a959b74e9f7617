import type { AuditKey } from '../store/key-store.js';
import type { Handle, Vault } from '../vault.js';

/** A signing key in the vault. */
export interface SigningKey {
  handle: Handle;
  publicKey: Uint8Array;
  createdAt: string;
}

/** Where the keys persist, wrapped under the root key: the keyring. */
export interface SigningKeyStore {
  readonly auditKeys: readonly AuditKey[];
  wrapSigning(signing: Handle, publicKey: Uint8Array): Uint8Array;
  unwrapSigning(key: AuditKey): Handle;
  /** `make` is called when it is its turn to be written. Durable when it resolves. */
  setAuditKeys(make: () => AuditKey[]): Promise<void>;
}

function textOf(publicKey: Uint8Array): string {
  return Buffer.from(publicKey.buffer, publicKey.byteOffset, publicKey.length).toString('base64');
}

/**
 * The key that signs checkpoints, and who comes after it. A succession has three steps: the successor is durable beside the key in
 * use; a line that this one signs announces it, durable too; the old one is dropped and wiped. A crash after the first step
 * leaves a successor that nobody knows, which the next start announces; one after the second leaves a log that
 * names the successor, and the next start takes it over. So the log never names a key that is lost.
 */
export class SigningKeys {
  readonly #vault: Vault;
  readonly #store: SigningKeyStore;
  #current: SigningKey;
  #next: SigningKey | undefined;

  private constructor(vault: Vault, store: SigningKeyStore, current: SigningKey, next?: SigningKey) {
    this.#vault = vault;
    this.#store = store;
    this.#current = current;
    this.#next = next;
  }

  /** The keys of a store whose log goes on with the one that `named` (base64) names, '' for a log that begins. */
  static open(vault: Vault, store: SigningKeyStore, named: string): SigningKeys {
    const rows = store.auditKeys;
    const [first, second] = rows.map((row) => ({ ...row, handle: store.unwrapSigning(row) }));
    // Written with its successor: one that stands alone has signed a line.
    if (first === undefined) return new SigningKeys(vault, store, newKey(vault));
    if (second === undefined) return new SigningKeys(vault, store, first);
    if (textOf(second.publicKey) !== named) return new SigningKeys(vault, store, first, second);
    vault.release(first.handle);
    return new SigningKeys(vault, store, second);
  }

  get handle(): Handle {
    return this.#current.handle;
  }

  /** In base64. */
  get publicKey(): string {
    return textOf(this.#current.publicKey);
  }

  /** Makes a successor, unless a crash has left one. Returns its public key in base64, for the line that announces it. */
  async prepare(): Promise<string> {
    if (this.#next === undefined) {
      const made = newKey(this.#vault);
      try {
        await this.#keep([this.#current, made]);
      } catch (error) {
        // It is tried again for as long as the disk refuses: each attempt would keep a place in locked memory.
        this.#vault.release(made.handle);
        throw error;
      }
      this.#next = made;
    }
    return textOf(this.#next.publicKey);
  }

  #keep(keys: readonly SigningKey[]): Promise<void> {
    const rowOf = ({ handle, publicKey, createdAt }: SigningKey): AuditKey => {
      return { publicKey, wrapped: this.#store.wrapSigning(handle, publicKey), createdAt };
    };
    return this.#store.setAuditKeys(() => keys.map(rowOf));
  }

  /** The announcing line is made: whatever is signed from here on, the successor signs. */
  take(): { complete(): Promise<void> } {
    const [old, next] = [this.#current, this.#next as SigningKey];
    this.#current = next;
    this.#next = undefined;
    // Once the line is durable.
    const complete = async () => {
      this.#vault.release(old.handle);
      await this.#keep([next]);
    };
    return { complete };
  }
}

function newKey(vault: Vault): SigningKey {
  return { ...vault.generateSigning(), createdAt: new Date().toISOString() };
}
