import { KmsError } from '../errors.js';
import { CIPHERTEXT_OVERHEAD, INLINE_BYTES, MAX_BATCH_ITEMS, MAX_PLAINTEXT_BYTES } from '../limits.js';
import type { BatchAad, Encrypted, ItemResult } from '../provider.js';
import type { Actor } from '../vault.js';
import * as vault from '../vault.js';
import { checkAad, checkBytes } from './calls.js';
import type { DataEvents } from './data-events.js';
import { answerDoorbell, type CachedKey, type KeyCache } from './key-cache.js';

/** Fetches and reservations one call may need: blocks double, so that the largest batch is covered long before. */
const MOST_ROUNDS = 64;
/** How many of them an asynchronous call makes beside all others. */
const CROWDED_ROUNDS = 8;
const NOTHING = new Uint8Array(0);

/** The two directions, so that each path below is written once. */
interface Direction {
  inline: typeof vault.encrypt;
  large: typeof vault.encryptLarge;
  into: typeof vault.encryptInto;
  longest: number;
  name: string;
}

const ENCRYPT: Direction = {
  inline: vault.encrypt,
  large: vault.encryptLarge,
  into: vault.encryptInto,
  longest: MAX_PLAINTEXT_BYTES,
  name: 'plaintext',
};
const DECRYPT: Direction = {
  inline: vault.decrypt,
  large: vault.decryptLarge,
  into: vault.decryptInto,
  longest: MAX_PLAINTEXT_BYTES + CIPHERTEXT_OVERHEAD,
  name: 'ciphertext',
};

function check(direction: Direction, input: unknown, aad: unknown): asserts input is Uint8Array {
  checkBytes(input, direction.name);
  if (input.length > direction.longest)
    throw new KmsError('TOO_LARGE', `${direction.name} is longer than ${direction.longest} bytes`);
  checkAad(aad);
}

/** What one item may fail of alone; anything else is the key's or the service's and fails the whole batch. */
function itemError(error: unknown): KmsError {
  const own = error instanceof KmsError && ['AUTHENTICATION_FAILED', 'TOO_LARGE', 'INVALID_ARGUMENT'].includes(error.code);
  if (!own) throw error;
  return error as KmsError;
}

/** The native call has one status for every misuse; what is left of them here gets its words. */
function intoError(status: number): KmsError {
  const error = vault.errorOfStatus(status);
  if (error.code !== 'INVALID_ARGUMENT') return error;
  return new KmsError('INVALID_ARGUMENT', 'out is too small for the result at this offset, or overlaps what is read');
}

function aadOf(aad: BatchAad, index: number): Uint8Array | undefined {
  return Array.isArray(aad) ? aad[index] : (aad as Uint8Array | undefined);
}

/** A batch with an item that is no message at all is refused as a whole, before any work, as it would be on the wire. */
function checkBatch(direction: Direction, inputs: readonly Uint8Array[], aad: BatchAad): void {
  if (!Array.isArray(inputs)) throw new KmsError('INVALID_ARGUMENT', 'a batch is an array of Uint8Array');
  if (inputs.length > MAX_BATCH_ITEMS) throw new KmsError('TOO_LARGE', `a batch has at most ${MAX_BATCH_ITEMS} items`);
  if (Array.isArray(aad) && aad.length !== inputs.length)
    throw new KmsError('INVALID_ARGUMENT', 'aad: one per item, or one for all');
  for (const [index, input] of inputs.entries()) check(direction, input, aadOf(aad, index));
}

/** A result and the key that made it. */
type Made = [result: Uint8Array, key: CachedKey];

/** Memory of its own: V8 moves small arrays, and what it leaves behind could not be wiped. */
function ownCopy(bytes: Uint8Array): Uint8Array {
  const copy = new Uint8Array(new ArrayBuffer(bytes.length));
  copy.set(bytes);
  return copy;
}

const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve));

/**
 * Encrypts and decrypts with keys by id: tries the vault, and brings the key or more uses when it says that they are
 * missing. The first try is the whole call almost always.
 */
export class Messages {
  readonly #cache: KeyCache;
  readonly #events: DataEvents;

  constructor(cache: KeyCache, events: DataEvents) {
    this.#cache = cache;
    this.#events = events;
  }

  #first(direction: Direction, key: CachedKey | undefined, input: Uint8Array, aad: Uint8Array | undefined, actor?: Actor) {
    if (key === undefined) return vault.NOT_CACHED;
    const result = direction.inline(key.handle, input, aad, actor);
    answerDoorbell();
    return result;
  }

  /** Settles what a try wants; the next try finds it done. What cannot be had is how the message ends. */
  async #provide(direction: Direction, keyId: string, bytes: number, wanted: vault.Wanting, actor: Actor): Promise<void> {
    if (wanted === vault.NEEDS_AUDIT) return this.#events.makeRoom();
    try {
      if (wanted === vault.NEEDS_USES) return await this.#cache.reserve(keyId);
      this.#cache.forget(keyId);
      if (this.#cache.known(keyId) === undefined) await this.#cache.fetch(keyId);
    } catch (error) {
      throw await this.#events.failed({ encrypts: direction === ENCRYPT, keyId, bytes, actor }, error);
    }
  }

  #provideSync(direction: Direction, keyId: string, bytes: number, wanted: vault.Wanting, actor: Actor): void {
    if (wanted === vault.NEEDS_AUDIT) {
      this.#events.makeRoomNow();
      return;
    }
    try {
      if (wanted === vault.NEEDS_USES) {
        this.#cache.reserveSync(keyId);
        return;
      }
      this.#cache.forget(keyId);
      if (this.#cache.known(keyId) === undefined) this.#cache.fetchSync(keyId);
    } catch (error) {
      throw this.#events.failedNow({ encrypts: direction === ENCRYPT, keyId, bytes, actor }, error);
    }
  }

  #sync(direction: Direction, keyId: string, input: Uint8Array, aad: Uint8Array | undefined, actor?: Actor): Uint8Array {
    check(direction, input, aad);
    for (let round = 0; round < MOST_ROUNDS; round += 1) {
      const result = this.#first(direction, this.#cache.known(keyId), input, aad, actor);
      if (typeof result !== 'number') return result;
      this.#provideSync(direction, keyId, input.length, result, actor);
    }
    throw new KmsError('BUSY', 'the key is evicted faster than it can be used');
  }

  encryptSync(keyId: string, plaintext: Uint8Array, aad?: Uint8Array): Uint8Array {
    return this.#sync(ENCRYPT, keyId, plaintext, aad);
  }

  decryptSync(keyId: string, ciphertext: Uint8Array, aad?: Uint8Array): Uint8Array {
    return this.#sync(DECRYPT, keyId, ciphertext, aad);
  }

  #into(
    direction: Direction,
    keyId: string,
    input: Uint8Array,
    aad: Uint8Array | undefined,
    out: Uint8Array,
    offset: number,
  ): number {
    check(direction, input, aad);
    checkBytes(out, 'out');
    for (let round = 0; round < MOST_ROUNDS; round += 1) {
      const key = this.#cache.known(keyId);
      const written = key === undefined ? vault.NOT_CACHED : direction.into(key.handle, input, aad, out, offset);
      answerDoorbell();
      if (written >= 0) return written;
      if (!vault.isWanting(written)) throw intoError(written);
      this.#provideSync(direction, keyId, input.length, written, undefined);
    }
    throw new KmsError('BUSY', 'the key is evicted faster than it can be used');
  }

  encryptInto(keyId: string, plaintext: Uint8Array, aad: Uint8Array | undefined, out: Uint8Array, offset: number): number {
    return this.#into(ENCRYPT, keyId, plaintext, aad, out, offset);
  }

  decryptInto(keyId: string, ciphertext: Uint8Array, aad: Uint8Array | undefined, out: Uint8Array, offset: number): number {
    return this.#into(DECRYPT, keyId, ciphertext, aad, out, offset);
  }

  /** What can be had without waiting, undefined otherwise. */
  #quick(direction: Direction, keyId: string, input: Uint8Array, aad: Uint8Array | undefined, actor: Actor): Made | undefined {
    check(direction, input, aad);
    const key = this.#cache.known(keyId);
    if (key === undefined || vault.isLarge(input)) return undefined;
    const result = this.#first(direction, key, input, aad, actor);
    return typeof result === 'number' ? undefined : [result, key];
  }

  async #async(direction: Direction, keyId: string, input: Uint8Array, aad: Uint8Array | undefined, actor: Actor): Promise<Made> {
    check(direction, input, aad);
    const first = await this.#round(direction, keyId, input, aad, actor);
    if (Array.isArray(first)) return first;
    // What the caller does with its buffers while we wait must not change what it asked for.
    const [held, heldAad] = [ownCopy(input), aad && ownCopy(aad)];
    try {
      await this.#provide(direction, keyId, held.length, first, actor);
      return await this.#patiently(direction, keyId, held, heldAad, actor);
    } finally {
      held.fill(0);
    }
  }

  /** One try: the result and the key that made it, or what is wanted first. */
  async #round(
    direction: Direction,
    keyId: string,
    input: Uint8Array,
    aad: Uint8Array | undefined,
    actor: Actor,
  ): Promise<Made | vault.Wanting> {
    const key = this.#cache.known(keyId);
    if (key === undefined || !vault.isLarge(input)) {
      const result = this.#first(direction, key, input, aad, actor);
      return typeof result === 'number' ? result : [result, key as CachedKey];
    }
    const result = await direction.large(key.handle, input, aad, actor);
    answerDoorbell();
    return typeof result === 'number' ? result : [result, key];
  }

  async #patiently(
    direction: Direction,
    keyId: string,
    input: Uint8Array,
    aad: Uint8Array | undefined,
    actor: Actor,
  ): Promise<Made> {
    for (let round = 0; round < CROWDED_ROUNDS; round += 1) {
      const made = await this.#round(direction, keyId, input, aad, actor);
      if (Array.isArray(made)) return made;
      await this.#provide(direction, keyId, input.length, made, actor);
    }
    // Where more keys are wanted at once than are kept, each fetch evicts what another one brought, and nobody would get
    // on. What is done in one blocking step has nothing come between.
    return [this.#sync(direction, keyId, input, aad, actor), this.#cache.known(keyId) as CachedKey];
  }

  async encrypt(keyId: string, plaintext: Uint8Array, aad?: Uint8Array, actor?: Actor): Promise<Encrypted> {
    const [ciphertext, key] =
      this.#quick(ENCRYPT, keyId, plaintext, aad, actor) ?? (await this.#async(ENCRYPT, keyId, plaintext, aad, actor));
    return { ciphertext, keyVersion: key.keyVersion };
  }

  async decrypt(keyId: string, ciphertext: Uint8Array, aad?: Uint8Array, actor?: Actor): Promise<Uint8Array> {
    const made = this.#quick(DECRYPT, keyId, ciphertext, aad, actor);
    return (made ?? (await this.#async(DECRYPT, keyId, ciphertext, aad, actor)))[0];
  }

  async #many(
    direction: Direction,
    keyId: string,
    inputs: readonly Uint8Array[],
    aad: BatchAad,
    actor: Actor,
  ): Promise<ItemResult[]> {
    checkBatch(direction, inputs, aad);
    // A key that cannot serve fails the batch, even one without items: opening nothing tells, and is no use of it.
    if (inputs.length === 0) await this.#async(DECRYPT, keyId, NOTHING, undefined, vault.UNAUDITED).catch(itemError);
    const bytes = inputs.reduce((sum, input) => sum + input.length, 0);
    if (this.#cache.known(keyId) === undefined) await this.#provide(direction, keyId, bytes, vault.NOT_CACHED, actor);
    const results: ItemResult[] = [];
    let sinceTurn = 0;
    for (const [index, input] of inputs.entries()) {
      try {
        const result = this.#item(direction, keyId, input, aadOf(aad, index), actor);
        results.push(result instanceof Uint8Array ? result : await result);
      } catch (error) {
        results.push(itemError(error));
      }
      sinceTurn += (input?.length ?? 0) + (aadOf(aad, index)?.length ?? 0);
      if (sinceTurn < INLINE_BYTES) continue;
      sinceTurn = 0;
      await nextTurn();
    }
    return results;
  }

  /** Without a promise where none is needed: a batch of small items is a plain loop. */
  #item(
    direction: Direction,
    keyId: string,
    input: Uint8Array,
    aad: Uint8Array | undefined,
    actor: Actor,
  ): Uint8Array | Promise<Uint8Array> {
    check(direction, input, aad);
    if (!vault.isLarge(input)) {
      const result = this.#first(direction, this.#cache.known(keyId), input, aad, actor);
      if (typeof result !== 'number') return result;
    }
    return this.#async(direction, keyId, input, aad, actor).then(([result]) => result);
  }

  encryptMany(keyId: string, plaintexts: readonly Uint8Array[], aad?: BatchAad, actor?: Actor): Promise<ItemResult[]> {
    return this.#many(ENCRYPT, keyId, plaintexts, aad, actor);
  }

  decryptMany(keyId: string, ciphertexts: readonly Uint8Array[], aad?: BatchAad, actor?: Actor): Promise<ItemResult[]> {
    return this.#many(DECRYPT, keyId, ciphertexts, aad, actor);
  }
}
