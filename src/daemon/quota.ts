import { KmsError } from '../errors.js';

/** Some of all keys, and where it goes on. */
type Glance = (cursor: string | undefined) => Promise<{ keys: ReadonlyArray<{ createdBy: string }>; next: string | null }>;

/**
 * How many keys each identity has made, for a bound on it. The records say who made them; they are counted once, from when the
 * first key is wanted, and by this from there on: nobody else makes keys in a data directory that is held. Destroyed keys count,
 * because their records stay.
 */
export class KeyQuota {
  private readonly made = new Map<string, number>();
  private counting: Promise<void> | undefined;

  constructor(
    /** 0 is any number. */
    private readonly most: number,
    private readonly glance: Glance,
  ) {}

  /** Makes a key for `actor` by `create`. Throws PERMISSION_DENIED if that one has made as many as it may. */
  async create<T>(actor: string, create: () => Promise<T>): Promise<T> {
    if (this.most === 0) return create();
    await this.counted();
    const before = this.made.get(actor) ?? 0;
    if (before >= this.most)
      throw new KmsError('PERMISSION_DENIED', `this identity has made ${this.most} keys, which is its limit`);
    // Before it is made: of two at once, only one may be the last.
    this.made.set(actor, before + 1);
    try {
      return await create();
    } catch (error) {
      // A write that failed may be on disk all the same. It is not counted until the next start, which is one key too many then.
      this.forget(actor);
      throw error;
    }
  }

  /** Who has made none takes no room: there may be any number of names. */
  private forget(actor: string): void {
    const left = (this.made.get(actor) ?? 1) - 1;
    if (left > 0) this.made.set(actor, left);
    else this.made.delete(actor);
  }

  /** A count that fails is begun anew by whoever wants a key next. */
  private counted(): Promise<void> {
    this.counting ??= this.count().catch((error) => {
      this.counting = undefined;
      throw error;
    });
    return this.counting;
  }

  private async count(): Promise<void> {
    this.made.clear();
    let cursor: string | undefined;
    do {
      const { keys, next } = await this.glance(cursor);
      for (const { createdBy } of keys) this.made.set(createdBy, (this.made.get(createdBy) ?? 0) + 1);
      cursor = next ?? undefined;
    } while (cursor !== undefined);
  }
}
