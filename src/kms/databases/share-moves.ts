import { KmsError } from '../../errors.js';
import type { SealedDocuments } from '../../store/key-store.js';
import type { Handle } from '../../vault.js';
import { Unsound } from '../rewrapping.js';
import type { WrappedShare } from './database-document.js';
import { type Known, type ShareGround, Shares } from './shares.js';

/** Names read at once. */
const PAGE = 256;
/** A database's document has no other writers: one that is lost to another says that two rotations run. */
const MOST_TRIES = 8;

/** Told of a database whose document holds a rotation up, and why. */
export type Blocked = (databaseId: string, reason: string) => void;

/**
 * The part of a rotation that concerns databases: the server's share of each is wrapped under the active KEK, without any secret,
 * and nothing else of them changes. Crash story: a document is replaced in one write, and the share under the KEK before stays in it
 * beside the new one, so that either KEK opens it whenever a crash comes; what was there is compared with what is there
 * before the older KEK may go. A daemon that has lost the lead unnoticed, in the middle of a write, has read what its successor has
 * replaced since, and its write is refused by that; by the store too, where its KEK is not the active one any more.
 */
export class ShareMoves {
  readonly #ground: ShareGround;
  readonly #sealed: SealedDocuments;
  readonly #shares: Shares;
  readonly #signal: AbortSignal;
  readonly #refuseIfLost: () => void;

  /** Once `signal` is aborted its work ends with SEALED; `refuseIfLost` throws once a rotation is another daemon's. */
  constructor(ground: ShareGround, sealed: SealedDocuments, signal: AbortSignal, refuseIfLost: () => void) {
    this.#ground = ground;
    this.#sealed = sealed;
    this.#shares = new Shares(ground, sealed);
    this.#signal = signal;
    this.#refuseIfLost = refuseIfLost;
  }

  moveAll(blocked: Blocked): Promise<void> {
    return this.#each(blocked, this.#refuseIfLost, (databaseId) => this.#move(databaseId));
  }

  /** Reads each back. What is not moved, because it was put back meanwhile, is moved first. */
  verifyAll(blocked: Blocked): Promise<void> {
    return this.#each(blocked, this.#refuseIfLost, async (databaseId) => this.#verify(await this.#move(databaseId)));
  }

  /** Opens each as a move would, and changes nothing. */
  inspectAll(blocked: Blocked): Promise<void> {
    const anybody = () => {};
    return this.#each(blocked, anybody, async (databaseId) => {
      const known = await this.#shares.read(databaseId);
      if (known !== undefined) this.#shares.checkOpens(known.document);
    });
  }

  async #each(blocked: Blocked, refuseIfLost: () => void, visit: (databaseId: string) => Promise<unknown>): Promise<void> {
    for (let after: string | undefined; ; ) {
      const page = await this.#sealed.list('', after, PAGE);
      for (const databaseId of page) {
        if (this.#signal.aborted) throw new KmsError('SEALED');
        refuseIfLost();
        await visit(databaseId).catch((error) => {
          if (!(error instanceof Unsound)) throw error;
          // Another daemon may have gone on with a KEK that is not known here: unsound by that alone.
          refuseIfLost();
          blocked(databaseId, error.reason);
        });
      }
      if (page.length < PAGE) return;
      after = page.at(-1);
    }
  }

  /** Undefined if the database was dropped meanwhile. */
  async #move(databaseId: string): Promise<Known | undefined> {
    for (let tries = 1; ; tries += 1) {
      const known = await this.#shares.read(databaseId);
      const isDone = known?.document.shares[0]?.kekId === this.#ground.keyring.active.kekId;
      if (known === undefined || isDone) return known;
      try {
        await this.#moveFrom(known);
      } catch (error) {
        const isLost = error instanceof KmsError && error.code === 'CONFLICT';
        if (!isLost || tries === MOST_TRIES) throw error;
      }
    }
  }

  async #moveFrom(known: Known): Promise<void> {
    const { vault, keyring } = this.#ground;
    const { document } = known;
    const before = document.shares[0] as WrappedShare;
    const share = this.#shares.unwrap(document, before);
    try {
      const details = this.#shares.details(document);
      await keyring.withKek(async (kek) => {
        const shares = [this.#shares.wrap(kek, document, share, details), before];
        await this.#shares.replace(known, { ...document, version: document.version + 1, shares });
      });
    } finally {
      vault.release(share);
    }
  }

  #verify(known: Known | undefined): void {
    if (known === undefined) return;
    const { vault, keyring } = this.#ground;
    const [live, before] = known.document.shares as [WrappedShare, WrappedShare | undefined];
    const handles: Handle[] = [this.#shares.unwrap(known.document, live)];
    try {
      // Made since the rotation began, it has nothing to be compared with.
      if (before === undefined || !keyring.holds(before.kekId)) return;
      handles.push(this.#shares.unwrap(known.document, before));
      if (!vault.isSame(...(handles as [Handle, Handle]))) throw new Unsound('it holds another share than before');
    } finally {
      for (const handle of handles) vault.release(handle);
    }
  }
}
