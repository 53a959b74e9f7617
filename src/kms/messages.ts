import { KmsError } from '../errors.js';
import { CIPHERTEXT_OVERHEAD, INLINE_BYTES, MAX_PLAINTEXT_BYTES } from '../limits.js';
import type { BatchAad, Encrypted, ItemResult } from '../provider.js';
import type { Actor } from '../vault.js';
import * as vault from '../vault.js';
import { Batch } from './batch.js';
import { checkAad, checkBytes, ownCopy } from './calls.js';
import type { DataEvents } from './data-events.js';
import { answerDoorbell, type CachedKey, type KeyCache } from './key-cache.js';

/** Fetches and reservations one call may need: blocks double, so that the largest batch is covered long before. */
const MOST_ROUNDS = 64;
/** How many of them an asynchronous call makes beside all others. */
const CROWDED_ROUNDS = 8;
const NOTHING = new Uint8Array(0);

/** The two directions, so that each path below is written once. */
interface Direction {
  large: typeof vault.encryptLarge;
  into: typeof vault.encryptInto;
  longest: number;
  name: string;
}

const ENCRYPT: Direction = {
  large: vault.encryptLarge,
  into: vault.encryptInto,
  longest: MAX_PLAINTEXT_BYTES,
  name: 'plaintext',
};
const DECRYPT: Direction = {
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

/** A result and the key that made it. */
type Made = [result: Uint8Array, key: CachedKey];

function encryptedOf([ciphertext, { keyVersion }]: Made): Encrypted {
  return { ciphertext, keyVersion };
}

function resultOf([result]: Made): Uint8Array {
  return result;
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
    // Called by their names: a function out of `direction` could not be compiled into its caller.
    const result =
      direction === ENCRYPT ? vault.encrypt(key.handle, input, aad, actor) : vault.decrypt(key.handle, input, aad, actor);
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

  /** What a first try got, or what another one gets after what it wanted. */
  #blocking(
    direction: Direction,
    keyId: string,
    input: Uint8Array,
    aad: Uint8Array | undefined,
    first: Uint8Array | vault.Wanting,
    actor?: Actor,
  ): Uint8Array {
    let result = first;
    for (let round = 0; round < MOST_ROUNDS; round += 1) {
      if (typeof result !== 'number') return result;
      this.#provideSync(direction, keyId, input.length, result, actor);
      result = this.#first(direction, this.#cache.known(keyId), input, aad, actor);
    }
    throw new KmsError('BUSY', 'the key is evicted faster than it can be used');
  }

  encryptSync(keyId: string, plaintext: Uint8Array, aad?: Uint8Array): Uint8Array {
    check(ENCRYPT, plaintext, aad);
    const result = this.#first(ENCRYPT, this.#cache.known(keyId), plaintext, aad);
    return typeof result === 'number' ? this.#blocking(ENCRYPT, keyId, plaintext, aad, result) : result;
  }

  decryptSync(keyId: string, ciphertext: Uint8Array, aad?: Uint8Array): Uint8Array {
    check(DECRYPT, ciphertext, aad);
    const result = this.#first(DECRYPT, this.#cache.known(keyId), ciphertext, aad);
    return typeof result === 'number' ? this.#blocking(DECRYPT, keyId, ciphertext, aad, result) : result;
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

  async #async(direction: Direction, keyId: string, input: Uint8Array, aad: Uint8Array | undefined, actor: Actor): Promise<Made> {
    check(direction, input, aad);
    // What the caller does with its buffers from its call on must not change what it asked for: they are copied before anything is
    // waited for, a large message on its way to the pool.
    const heldAad = aad && ownCopy(aad);
    const first = await this.#round(direction, keyId, input, heldAad, actor);
    if (Array.isArray(first)) return first;
    const held = first.input;
    try {
      await this.#provide(direction, keyId, held.length, first.wanted, actor);
      return await this.#patiently(direction, keyId, held, heldAad, actor);
    } finally {
      held.fill(0);
    }
  }

  /** One try: the result and the key that made it, or what is wanted first and a copy of the input. */
  #round(
    direction: Direction,
    keyId: string,
    input: Uint8Array,
    aad: Uint8Array | undefined,
    actor: Actor,
  ): Made | vault.Postponed | Promise<Made | vault.Postponed> {
    const key = this.#cache.known(keyId);
    if (key !== undefined && vault.isLarge(input)) return this.#large(direction, key, input, aad, actor);
    const result = this.#first(direction, key, input, aad, actor);
    return typeof result === 'number' ? { wanted: result, input: ownCopy(input) } : [result, key as CachedKey];
  }

  async #large(
    direction: Direction,
    key: CachedKey,
    input: Uint8Array,
    aad: Uint8Array | undefined,
    actor: Actor,
  ): Promise<Made | vault.Postponed> {
    const result = await direction.large(key.handle, input, aad, actor);
    answerDoorbell();
    return result instanceof Uint8Array ? [result, key] : result;
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
      made.input.fill(0);
      await this.#provide(direction, keyId, input.length, made.wanted, actor);
    }
    // Where more keys are wanted at once than are kept, each fetch evicts what another one brought, and nobody would get
    // on. What is done in the step that brings the key has nothing come between.
    for (let round = CROWDED_ROUNDS; round < MOST_ROUNDS; round += 1) {
      const made = await this.#asItComes(direction, keyId, input, aad, actor);
      if (Array.isArray(made)) return made;
      if (made !== vault.NOT_CACHED) await this.#provide(direction, keyId, input.length, made, actor);
    }
    throw new KmsError('BUSY', 'the key is evicted faster than it can be used');
  }

  async #asItComes(direction: Direction, keyId: string, input: Uint8Array, aad: Uint8Array | undefined, actor: Actor) {
    let made: Made | vault.Wanting = vault.NOT_CACHED;
    let failure: unknown;
    const use = (key: CachedKey) => {
      try {
        const result = this.#first(direction, key, input, aad, actor);
        made = typeof result === 'number' ? result : [result, key];
      } catch (error) {
        failure = error;
      }
    };
    try {
      await this.#cache.fetch(keyId, use);
    } catch (error) {
      throw await this.#events.failed({ encrypts: direction === ENCRYPT, keyId, bytes: input.length, actor }, error);
    }
    if (failure !== undefined) throw failure;
    return made as Made | vault.Wanting;
  }

  /** A promise only where something has to be waited for: one that is not made, nor looked at, is the cheapest. May throw. */
  encrypt(keyId: string, plaintext: Uint8Array, aad?: Uint8Array, actor?: Actor): Encrypted | Promise<Encrypted> {
    check(ENCRYPT, plaintext, aad);
    const key = this.#cache.known(keyId);
    if (key !== undefined && !vault.isLarge(plaintext)) {
      const ciphertext = this.#first(ENCRYPT, key, plaintext, aad, actor);
      if (typeof ciphertext !== 'number') return { ciphertext, keyVersion: key.keyVersion };
    }
    return this.#async(ENCRYPT, keyId, plaintext, aad, actor).then(encryptedOf);
  }

  decrypt(keyId: string, ciphertext: Uint8Array, aad?: Uint8Array, actor?: Actor): Uint8Array | Promise<Uint8Array> {
    check(DECRYPT, ciphertext, aad);
    const key = this.#cache.known(keyId);
    if (key !== undefined && !vault.isLarge(ciphertext)) {
      const plaintext = this.#first(DECRYPT, key, ciphertext, aad, actor);
      if (typeof plaintext !== 'number') return plaintext;
    }
    return this.#async(DECRYPT, keyId, ciphertext, aad, actor).then(resultOf);
  }

  async #many(
    direction: Direction,
    keyId: string,
    given: readonly Uint8Array[],
    aad: BatchAad,
    actor: Actor,
  ): Promise<ItemResult[]> {
    const batch = new Batch(given, aad, (input, extra) => check(direction, input, extra));
    try {
      return await this.#through(direction, keyId, batch, actor);
    } finally {
      batch.wipe();
    }
  }

  async #through(direction: Direction, keyId: string, batch: Batch, actor: Actor): Promise<ItemResult[]> {
    const { inputs } = batch;
    // A key that cannot serve fails the batch, even one without items: opening nothing tells, and is no use of it.
    if (inputs.length === 0) await this.#async(DECRYPT, keyId, NOTHING, undefined, vault.UNAUDITED).catch(itemError);
    if (this.#cache.known(keyId) === undefined) {
      batch.hold(0);
      const bytes = inputs.reduce((sum, input) => sum + input.length, 0);
      await this.#provide(direction, keyId, bytes, vault.NOT_CACHED, actor);
    }
    const results: ItemResult[] = [];
    for (;;) {
      this.#stretch(direction, keyId, batch, results, actor);
      const at = results.length;
      if (at === inputs.length) return results;
      const waited = this.#async(direction, keyId, inputs[at]!, batch.aadOf(at), actor).then(resultOf, itemError);
      batch.hold(at + 1);
      results.push(await waited);
      await nextTurn();
    }
  }

  /** Adds to `results` until one has to be waited for or others shall have a turn: a plain loop, which is compiled as one. */
  #stretch(direction: Direction, keyId: string, batch: Batch, results: ItemResult[], actor: Actor): void {
    const { inputs } = batch;
    const key = this.#cache.known(keyId);
    let bytes = 0;
    for (let at = results.length; at < inputs.length && bytes < INLINE_BYTES; at += 1) {
      const input = inputs[at] as Uint8Array;
      if (vault.isLarge(input)) return;
      const extra = batch.aadOf(at);
      try {
        const result = this.#first(direction, key, input, extra, actor);
        if (typeof result === 'number') return;
        results.push(result);
      } catch (error) {
        results.push(itemError(error));
      }
      bytes += input.length + (extra?.length ?? 0);
    }
  }

  encryptMany(keyId: string, plaintexts: readonly Uint8Array[], aad?: BatchAad, actor?: Actor): Promise<ItemResult[]> {
    return this.#many(ENCRYPT, keyId, plaintexts, aad, actor);
  }

  decryptMany(keyId: string, ciphertexts: readonly Uint8Array[], aad?: BatchAad, actor?: Actor): Promise<ItemResult[]> {
    return this.#many(DECRYPT, keyId, ciphertexts, aad, actor);
  }
}
