import { KmsError } from '../errors.js';
import { MAX_BATCH_ITEMS } from '../limits.js';
import type { ItemResult, Provider } from '../provider.js';
import { isPassing } from './passing.js';

/** Bytes of one request to the key service: large enough to share its cost, small enough to leave others their turn. */
const BATCH_BYTES = 1024 * 1024;
const BATCH_ITEMS = Math.min(MAX_BATCH_ITEMS, 2_048);

/** One value to be sealed or opened. */
export interface Piece {
  keyId: string;
  data: Uint8Array;
  /** Empty for none, as the original writes. */
  aad: Uint8Array;
}

type Verb = 'encryptMany' | 'decryptMany';

/**
 * Seals and opens many values with few requests: those of one key together, as many as a request may hold. One value that does
 * not open leaves the others alone; a key service that cannot be asked fails all of them.
 */
export class BodyCipher {
  readonly #kms: Provider | undefined;

  constructor(kms: Provider | undefined) {
    this.#kms = kms;
  }

  get hasService(): boolean {
    return this.#kms !== undefined;
  }

  /** In order. Rejects with the first failure: what is not sealed as a whole is not written. */
  async seal(pieces: readonly Piece[]): Promise<Uint8Array[]> {
    const [first] = pieces;
    if (first === undefined) return [];
    if (pieces.length === 1) {
      return [(await this.#service().encryptWithDek(first.keyId, first.data, first.aad)).ciphertext];
    }
    const sealed = await this.#each('encryptMany', pieces);
    return sealed.map((result) => {
      if (result instanceof KmsError) throw result;
      return result;
    });
  }

  /** One result per piece, in order. Rejects when the key service cannot be asked. */
  open(pieces: readonly Piece[]): Promise<ItemResult[]> {
    return this.#each('decryptMany', pieces);
  }

  #service(): Provider {
    if (this.#kms === undefined) throw new KmsError('UNSUPPORTED', 'the thread is encrypted, and there is no key service');
    return this.#kms;
  }

  async #each(verb: Verb, pieces: readonly Piece[]): Promise<ItemResult[]> {
    const results: ItemResult[] = new Array(pieces.length);
    await Promise.all(
      batchesOf(pieces).map(async (indexes) => {
        const own = indexes.map((index) => pieces[index] as Piece);
        const done = await this.#request(verb, own);
        indexes.forEach((index, i) => {
          results[index] = done[i] as ItemResult;
        });
      }),
    );
    return results;
  }

  async #request(verb: Verb, pieces: readonly Piece[]): Promise<ItemResult[]> {
    const [{ keyId }] = pieces as [Piece];
    try {
      const results = await this.#service()[verb](
        keyId,
        pieces.map(({ data }) => data),
        pieces.map(({ aad }) => aad),
      );
      // The service was sealed, or went, in the middle: that says nothing of the value.
      const away = results.find((result) => result instanceof KmsError && isPassing(result));
      if (away !== undefined) throw away;
      return results;
    } catch (error) {
      // What is wrong with one key is said of its own values; of the service, it is said once.
      if (verb === 'encryptMany' || !isOfOneKey(error)) throw error;
      return pieces.map(() => error);
    }
  }
}

const OF_ONE_KEY = new Set(['KEY_NOT_FOUND', 'KEY_DISABLED', 'KEY_DESTROYED', 'PERMISSION_DENIED', 'INVALID_ARGUMENT']);

function isOfOneKey(error: unknown): error is KmsError {
  return error instanceof KmsError && OF_ONE_KEY.has(error.code);
}

/** Indexes, grouped by key, in groups of a bounded size. */
function batchesOf(pieces: readonly Piece[]): number[][] {
  const batches: number[][] = [];
  const open = new Map<string, { indexes: number[]; bytes: number }>();
  pieces.forEach(({ keyId, data, aad }, index) => {
    const bytes = data.length + aad.length;
    const batch = open.get(keyId);
    if (batch === undefined || batch.indexes.length >= BATCH_ITEMS || batch.bytes + bytes > BATCH_BYTES) {
      const indexes = [index];
      batches.push(indexes);
      open.set(keyId, { indexes, bytes });
    } else {
      batch.indexes.push(index);
      batch.bytes += bytes;
    }
  });
  return batches;
}
