import { randomBytes, randomInt } from 'node:crypto';
import { KmsError } from '../errors.js';
import { ROTATION_PROBES } from '../limits.js';
import type { KeyStore } from '../store/key-store.js';
import { keyPages } from './key-walk.js';
import type { Messages } from './messages.js';
import type { Opened } from './opened.js';

interface Probe {
  keyId: string;
  plaintext: Uint8Array;
  ciphertext: Uint8Array;
}

/** Keys that a message cannot be tried with have their own errors; what the store or the vault says is no one's but theirs. */
const UNTRIED = new Set(['KEY_NOT_FOUND', 'KEY_DISABLED', 'KEY_DESTROYED', 'KEY_EXHAUSTED']);

async function attempt<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof KmsError && UNTRIED.has(error.code)) return undefined;
    throw error;
  }
}

/** Messages of a few keys from before a rotation, which have to open after it. */
export class Probes {
  readonly #opened: Opened;
  readonly #messages: Messages;
  #probes: Probe[] | undefined;

  constructor(opened: Opened, messages: Messages) {
    this.#opened = opened;
    this.#messages = messages;
  }

  /** Encrypts under random active keys as their old records have them. Once: what was taken before a resumption stays. */
  async take(store: KeyStore): Promise<void> {
    if (this.#probes !== undefined) return;
    const probes: Probe[] = [];
    for (const keyId of await someKeys(store, ROTATION_PROBES)) {
      if (this.#opened.records.reasonAgainst(keyId) !== undefined) continue;
      const probe = await attempt(() => this.#encrypted(keyId)).catch((error) => {
        // The walk over all records comes upon it, too, and says so.
        if (this.#opened.records.reasonAgainst(keyId) === undefined) throw error;
        return undefined;
      });
      if (probe !== undefined) probes.push(probe);
    }
    this.#probes = probes;
  }

  async #encrypted(keyId: string): Promise<Probe> {
    const plaintext = randomBytes(32);
    this.#opened.cache.retire(keyId, 'evicted');
    const { ciphertext } = await this.#messages.encrypt(keyId, plaintext);
    return { keyId, plaintext, ciphertext };
  }

  /** Throws INTERNAL if a message does not open with its key as the new record has it. */
  async check(): Promise<void> {
    for (const { keyId, plaintext, ciphertext } of this.#probes ?? []) {
      this.#opened.cache.retire(keyId, 'evicted');
      const opened = await attempt(async () => this.#messages.decrypt(keyId, ciphertext)).catch((error) => {
        if (error instanceof KmsError && error.code === 'AUTHENTICATION_FAILED') return new Uint8Array(0);
        throw error;
      });
      if (opened === undefined || Buffer.compare(opened, plaintext) === 0) continue;
      throw new KmsError('INTERNAL', `a message of ${keyId} from before the rotation does not open after it`);
    }
  }
}

/** Up to `count` keys, each as likely as any other (reservoir sampling, Vitter's algorithm R). */
async function someKeys(store: KeyStore, count: number): Promise<string[]> {
  const chosen: string[] = [];
  let seen = 0;
  for await (const page of keyPages(store)) {
    for (const keyId of page) {
      seen += 1;
      const at = seen <= count ? seen - 1 : randomInt(seen);
      if (at < count) chosen[at] = keyId;
    }
  }
  return chosen;
}
