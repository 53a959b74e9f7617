import type { Space } from '../native.js';
import type { DatabaseKms, Doorway } from './operations.js';
import type { Vault } from './walk.js';

/** In place of the space of a database: the store's. */
const OUTSIDE = 0;

/** The service as it is within a database, whose records are at nobody's hand. */
class Inside implements Vault {
  readonly hasRecordsAtHand = false;

  constructor(
    private readonly outside: Vault,
    readonly space: Space,
  ) {}

  get sealed(): boolean {
    return this.outside.sealed;
  }

  get refusesData(): boolean {
    return this.outside.refusesData;
  }

  answerDoorbell(): void {
    this.outside.answerDoorbell();
  }

  loadKeys(): void {}
}

/** Where the requests of one connection are: in a database, or outside of them all. */
export class Stay implements Doorway {
  isChanging = false;
  /** Whose keys the native core serves them from. */
  vault: Vault;
  private current: DatabaseKms | undefined;
  private isOver = false;

  /** `onMove` is told the space wherever it goes. */
  constructor(
    private readonly outside: Vault,
    private readonly onMove: (space: Space) => void = () => {},
  ) {
    this.vault = outside;
  }

  get database(): DatabaseKms | undefined {
    return this.current;
  }

  /** The database was closed by a seal that is over, or removed: whoever wants to go on has to open it again. */
  get isLost(): boolean {
    return this.current?.isOpen === false && !this.outside.sealed;
  }

  enter(database: DatabaseKms | undefined): void {
    this.current?.leave();
    this.current = this.isOver ? undefined : database;
    // The connection has gone while the database was looked for.
    if (this.isOver) database?.leave();
    else this.moveTo(this.current?.space ?? OUTSIDE);
  }

  /** Where another thread has what is known of the database. */
  moveTo(space: Space): void {
    this.vault = space === OUTSIDE ? this.outside : new Inside(this.outside, space);
    this.onMove(space);
  }

  /** With the connection. */
  end(): void {
    this.isOver = true;
    this.enter(undefined);
  }
}
