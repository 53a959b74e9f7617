import { decryptInto, doorbell, encryptInto } from '../vault.js';
import type { KeyCache } from './key-cache.js';
import type { Messages } from './messages.js';

/**
 * One key, resolved: the same verbs without looking the id up. It stays good when the key is evicted or reloaded, and
 * gives the key's errors when it is disabled or destroyed.
 */
export class Key {
  readonly keyId: string;
  readonly #messages: Messages;
  readonly #cache: KeyCache;
  #handle: number;

  constructor(keyId: string, messages: Messages, cache: KeyCache, handle: number) {
    this.keyId = keyId;
    this.#messages = messages;
    this.#cache = cache;
    this.#handle = handle;
  }

  /**
   * Writes nonce(12) ‖ ciphertext ‖ tag(16) to `out` at `offset`; returns the bytes written, plaintext.length + 28.
   * `out` must not overlap `plaintext` or `aad`. The fastest form: nothing is allocated.
   */
  encryptInto(plaintext: Uint8Array, aad: Uint8Array | undefined, out: Uint8Array, offset = 0): number {
    const written = encryptInto(this.#handle, plaintext, aad, out, offset);
    if (doorbell[0] !== 0) this.#cache.answerDoorbell();
    return written >= 0 ? written : this.#again(this.#messages.encryptInto(this.keyId, plaintext, aad, out, offset));
  }

  /** Writes the plaintext to `out` at `offset`; returns its length, ciphertext.length − 28. */
  decryptInto(ciphertext: Uint8Array, aad: Uint8Array | undefined, out: Uint8Array, offset = 0): number {
    const written = decryptInto(this.#handle, ciphertext, aad, out, offset);
    return written >= 0 ? written : this.#again(this.#messages.decryptInto(this.keyId, ciphertext, aad, out, offset));
  }

  /** After the slow path has succeeded, the key is in the vault under a handle that may be new. */
  #again(written: number): number {
    this.#handle = this.#cache.known(this.keyId)?.handle ?? this.#handle;
    return written;
  }

  encryptSync(plaintext: Uint8Array, aad?: Uint8Array): Uint8Array {
    return this.#messages.encryptSync(this.keyId, plaintext, aad);
  }

  decryptSync(ciphertext: Uint8Array, aad?: Uint8Array): Uint8Array {
    return this.#messages.decryptSync(this.keyId, ciphertext, aad);
  }
}
