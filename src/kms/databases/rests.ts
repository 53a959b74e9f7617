import { MAX_REMEMBERED_RESTS } from '../../limits.js';

export type Rest = [keyId: string, uses: number];

/**
 * Reserved uses that databases had left when nobody had them open any more. Their records cannot be told without a secret; who
 * opens one next goes on with them, so that a request that opens and leaves its database each time does not reserve anew each
 * time. Those that are forgotten, or go with the process, only count as used.
 */
export class Rests {
  readonly #rests = new Map<string, Rest[]>();
  #count = 0;

  keep(database: string, rests: Rest[]): void {
    this.take(database);
    if (rests.length === 0 || rests.length > MAX_REMEMBERED_RESTS) return;
    this.#rests.set(database, rests);
    this.#count += rests.length;
    for (const [oldest] of this.#rests) {
      if (this.#count <= MAX_REMEMBERED_RESTS) return;
      this.take(oldest);
    }
  }

  take(database: string): Rest[] {
    const rests = this.#rests.get(database) ?? [];
    this.#rests.delete(database);
    this.#count -= rests.length;
    return rests;
  }
}
