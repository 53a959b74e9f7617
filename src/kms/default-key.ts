import { KmsError } from '../errors.js';
import { CIPHERTEXT_OVERHEAD, SEALED_HEADER_BYTES, SOFT_USES } from '../limits.js';
import type { Encrypted } from '../provider.js';
import type { Actor } from '../vault.js';
import { checkAad, checkBytes, ownCopy } from './calls.js';
import type { Messages } from './messages.js';
import type { Ring } from './ring.js';

/** docs/FORMATS.md: the first byte of a ciphertext that names its own key. */
const SEALED_VERSION = 1;

function headerOf(keyId: string): Uint8Array {
  const header = Buffer.alloc(SEALED_HEADER_BYTES);
  header[0] = SEALED_VERSION;
  header.write(keyId.slice(2), 1, 'hex');
  return header;
}

function keyIdOf(sealed: Uint8Array): string {
  if (sealed.length < SEALED_HEADER_BYTES + CIPHERTEXT_OVERHEAD || sealed[0] !== SEALED_VERSION) {
    throw new KmsError('AUTHENTICATION_FAILED');
  }
  return `k_${Buffer.from(sealed.subarray(1, SEALED_HEADER_BYTES)).toString('hex')}`;
}

function withHeader(header: Uint8Array, aad: Uint8Array | undefined): Uint8Array {
  return aad === undefined || aad.length === 0 ? header : Buffer.concat([header, aad]);
}

function joined(header: Uint8Array, { ciphertext }: Encrypted): Uint8Array {
  const sealed = Buffer.allocUnsafeSlow(header.length + ciphertext.length);
  sealed.set(header);
  sealed.set(ciphertext, header.length);
  return sealed;
}

/** Runs `work` while no other process of the same store does. */
export type Alone = <T>(work: () => Promise<T>) => Promise<T>;

/**
 * The key for callers that name none. Its id stands before each ciphertext and in its AAD, so that the key can be
 * succeeded: at its soft limit, or when it was disabled or destroyed. Crash story of a succession: the new key is durable
 * before the keyring names it; a crash between the two leaves a key that nothing was encrypted with.
 */
export class DefaultKey {
  readonly #keyring: Ring;
  readonly #messages: Messages;
  readonly #create: () => Promise<string>;
  readonly #alone: Alone;
  readonly #softUses: number;
  #succeeding: Promise<string> | undefined;

  constructor(keyring: Ring, messages: Messages, create: () => Promise<string>, alone: Alone, softUses = SOFT_USES) {
    this.#alone = alone;
    this.#keyring = keyring;
    this.#messages = messages;
    this.#create = create;
    this.#softUses = softUses;
  }

  #succeed(): Promise<string> {
    const before = this.#keyring.defaultKeyId;
    this.#succeeding ??= this.#alone(async () => {
      await this.#keyring.refresh();
      // Another daemon was first: one key is as good as another.
      if (this.#keyring.defaultKeyId !== before) return this.#keyring.defaultKeyId;
      const keyId = await this.#create();
      await this.#keyring.setDefaultKey(keyId);
      return keyId;
    }).finally(() => {
      this.#succeeding = undefined;
    });
    return this.#succeeding;
  }

  /** Told of each reservation: past the soft limit a successor is made in the background. */
  reserved(keyId: string, usesReserved: number): void {
    // A succession that fails is tried again with the next reservation, long before the hard limit.
    if (keyId === this.#keyring.defaultKeyId && usesReserved >= this.#softUses) this.#succeed().catch(() => undefined);
  }

  async encrypt(plaintext: Uint8Array, aad?: Uint8Array, actor?: Actor): Promise<Uint8Array> {
    checkBytes(plaintext, 'plaintext');
    checkAad(aad);
    const keyId = this.#keyring.defaultKeyId;
    // What the caller does with its buffers meanwhile must not change what it asked for: they are copied before anything is waited
    // for, because even a key that is there may have to be succeeded.
    let held: Uint8Array | undefined;
    let heldAad: Uint8Array | undefined;
    const hold = () => {
      held ??= ownCopy(plaintext);
      heldAad ??= aad && ownCopy(aad);
      return held;
    };
    try {
      if (keyId === '') return await this.#encryptUnder(this.#succeed(), hold(), heldAad, actor);
      const sealed = this.#sealUnder(keyId, plaintext, aad, actor);
      if (!(sealed instanceof Promise)) return sealed;
      hold();
      return await sealed;
    } catch (error) {
      const retired = error instanceof KmsError && ['KEY_DISABLED', 'KEY_DESTROYED', 'KEY_EXHAUSTED'].includes(error.code);
      if (!retired) throw error;
      const current = this.#keyring.defaultKeyId;
      return await this.#encryptUnder(current === keyId ? this.#succeed() : current, hold(), heldAad, actor);
    } finally {
      held?.fill(0);
    }
  }

  async #encryptUnder(keyId: string | Promise<string>, plaintext: Uint8Array, aad: Uint8Array | undefined, actor: Actor) {
    return this.#sealUnder(await keyId, plaintext, aad, actor);
  }

  #sealUnder(keyId: string, plaintext: Uint8Array, aad: Uint8Array | undefined, actor: Actor): Uint8Array | Promise<Uint8Array> {
    const header = headerOf(keyId);
    const made = this.#messages.encrypt(keyId, plaintext, withHeader(header, aad), actor);
    return made instanceof Promise ? made.then((encrypted) => joined(header, encrypted)) : joined(header, made);
  }

  async decrypt(sealed: Uint8Array, aad?: Uint8Array, actor?: Actor): Promise<Uint8Array> {
    checkBytes(sealed, 'ciphertext');
    checkAad(aad);
    const keyId = keyIdOf(sealed);
    const header = sealed.subarray(0, SEALED_HEADER_BYTES);
    try {
      return await this.#messages.decrypt(keyId, sealed.subarray(SEALED_HEADER_BYTES), withHeader(header, aad), actor);
    } catch (error) {
      // The id was read from what is being authenticated: that no such key exists is one more way not to match.
      if (error instanceof KmsError && error.code === 'KEY_NOT_FOUND') throw new KmsError('AUTHENTICATION_FAILED');
      throw error;
    }
  }
}
