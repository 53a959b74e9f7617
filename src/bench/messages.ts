import { randomBytes } from 'node:crypto';
import { KmsError } from '../errors.js';
import { CIPHERTEXT_OVERHEAD } from '../limits.js';
import type { MessageOperation, Sealer } from './sealer.js';

/** Authenticated with every message, as an application names what a ciphertext belongs to. */
export const AAD_BYTES = 32;
/** Ciphertexts that wait to be decrypted: beyond these only as many keys are met as have one. */
const POOL_BYTES = 256 * 1024 * 1024;
/** Ciphertexts there are at least, so that not one alone stays in the processor's cache. */
const LEAST_POOL = 16;
/** One answer in so many is kept, to be looked at when the clock has stopped. */
const KEPT_EACH = 1_024;
const MAX_KEPT = 64;
const FILLED_AT_ONCE = 64;

/** A message under a key, by its number. */
interface Sealed {
  key: number;
  ciphertext: Uint8Array;
}

/** The messages of one size that go to random ones of the keys, and the proof that what came back is right. */
export class Messages {
  readonly plaintext: Buffer;
  readonly aad = randomBytes(AAD_BYTES);
  readonly sealed: Sealed[] = [];
  private readonly kept: Array<{ key: number; bytes: Uint8Array }> = [];
  private seed = randomBytes(4).readUInt32LE() | 1;
  private answers = 0;

  constructor(
    readonly keyIds: readonly string[],
    readonly size: number,
  ) {
    this.plaintext = randomBytes(size);
  }

  /** Keys that decryptions go to. */
  get keysWithCiphertext(): number {
    return Math.min(this.keyIds.length, this.sealed.length);
  }

  /** A whole number below `count`: xorshift32, which costs next to nothing. */
  random(count: number): number {
    this.seed ^= this.seed << 13;
    this.seed ^= this.seed >>> 17;
    this.seed ^= this.seed << 5;
    return (this.seed >>> 0) % count;
  }

  /** Makes what decryptions open. */
  async seal(sealer: Sealer): Promise<void> {
    const most = Math.floor(POOL_BYTES / (this.size + CIPHERTEXT_OVERHEAD));
    const count = Math.min(most, Math.max(LEAST_POOL, this.keyIds.length));
    const lane = async (first: number) => {
      for (let index = first; index < count; index += FILLED_AT_ONCE) {
        const key = index % this.keyIds.length;
        const { ciphertext } = await sealer.encryptWithDek(this.keyIds[key] as string, this.plaintext, this.aad);
        this.sealed[index] = { key, ciphertext };
      }
    };
    await Promise.all(Array.from({ length: Math.min(count, FILLED_AT_ONCE) }, (_, first) => lane(first)));
  }

  /** One operation, at the end of which the length of its answer is right. */
  operation(which: MessageOperation, sealers: readonly Sealer[]): (index: number) => Promise<void> {
    const { keyIds, plaintext, aad } = this;
    if (which === 'encrypt') {
      return async (index) => {
        const key = this.random(keyIds.length);
        const sealer = sealers[index % sealers.length] as Sealer;
        const { ciphertext } = await sealer.encryptWithDek(keyIds[key] as string, plaintext, aad);
        this.take(key, ciphertext, CIPHERTEXT_OVERHEAD);
      };
    }
    return async (index) => {
      const { key, ciphertext } = this.sealed[this.random(this.sealed.length)] as Sealed;
      const sealer = sealers[index % sealers.length] as Sealer;
      this.take(key, await sealer.decryptWithDek(keyIds[key] as string, ciphertext, aad), 0);
    };
  }

  /** Looks at the length of an answer, and keeps some answers for `verify`. */
  take(key: number, bytes: Uint8Array, overhead: number): void {
    if (bytes.length !== this.size + overhead) throw wrong(`an answer has ${bytes.length} bytes`);
    if (this.answers++ % KEPT_EACH !== 0 || this.kept.length === MAX_KEPT) return;
    // What another operation writes over is no proof.
    this.kept.push({ key, bytes: Uint8Array.from(bytes) });
  }

  /** Opens and compares the answers that were kept; INTERNAL if one is wrong. Resolves to how many there were. */
  async verify(which: MessageOperation, sealer: Sealer): Promise<number> {
    const kept = this.kept.splice(0);
    this.answers = 0;
    for (const { key, bytes } of kept) {
      const opened = which === 'decrypt' ? bytes : await sealer.decryptWithDek(this.keyIds[key] as string, bytes, this.aad);
      if (!this.plaintext.equals(opened)) throw wrong(`what was ${which}ed is not the message`);
    }
    return kept.length;
  }
}

function wrong(detail: string): KmsError {
  return new KmsError('INTERNAL', detail);
}
