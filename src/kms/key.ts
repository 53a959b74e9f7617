import { decryptInto, doorbell, encryptInto } from '../vault.js';
import { answerDoorbell, type KeyCache } from './key-cache.js';
import type { Messages } from './messages.js';

/** What a key goes through when its handle does not serve: of the session that is open then. */
export type Serving = () => { messages: Messages; cache: KeyCache };

/** Any negative number sends a call the slow way, which finds the words for what is wrong with it. */
const REFUSED = -1;

/** What the native call relies on. */
function areBytes(input: unknown, aad: unknown, out: unknown): boolean {
  return input instanceof Uint8Array && (aad === undefined || aad instanceof Uint8Array) && out instanceof Uint8Array;
}

/**
 * One key, resolved: the same verbs without looking the id up. It stays good when the key is evicted or reloaded, and
 * gives the key's errors when it is disabled or destroyed. After a seal it serves again once the provider is unsealed.
 */
export class Key {
  readonly keyId: string;
  readonly #serving: Serving;
  #handle: number;

  constructor(keyId: string, serving: Serving, handle: number) {
    this.keyId = keyId;
    this.#serving = serving;
    this.#handle = handle;
  }

  /**
   * Writes nonce(12) ‖ ciphertext ‖ tag(16) to `out` at `offset`; returns the bytes written, plaintext.length + 28.
   * `out` must not overlap `plaintext` or `aad`. The fastest form: nothing is allocated.
   */
  encryptInto(plaintext: Uint8Array, aad: Uint8Array | undefined, out: Uint8Array, offset = 0): number {
    const written = areBytes(plaintext, aad, out) ? encryptInto(this.#handle, plaintext, aad, out, offset) : REFUSED;
    if (doorbell[0] !== 0) answerDoorbell();
    return written >= 0 ? written : this.#again(this.#serving().messages.encryptInto(this.keyId, plaintext, aad, out, offset));
  }

  /** Writes the plaintext to `out` at `offset`; returns its length, ciphertext.length − 28. */
  decryptInto(ciphertext: Uint8Array, aad: Uint8Array | undefined, out: Uint8Array, offset = 0): number {
    const written = areBytes(ciphertext, aad, out) ? decryptInto(this.#handle, ciphertext, aad, out, offset) : REFUSED;
    return written >= 0 ? written : this.#again(this.#serving().messages.decryptInto(this.keyId, ciphertext, aad, out, offset));
  }

  /** After the slow path has succeeded, the key is in the vault under a handle that may be new. */
  #again(written: number): number {
    this.#handle = this.#serving().cache.known(this.keyId)?.handle ?? this.#handle;
    return written;
  }

  encryptSync(plaintext: Uint8Array, aad?: Uint8Array): Uint8Array {
    return this.#serving().messages.encryptSync(this.keyId, plaintext, aad);
  }

  decryptSync(ciphertext: Uint8Array, aad?: Uint8Array): Uint8Array {
    return this.#serving().messages.decryptSync(this.keyId, ciphertext, aad);
  }
}
