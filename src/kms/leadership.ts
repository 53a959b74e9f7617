import type { RotationStatus } from '../provider.js';
import type { Lease } from '../store/shared-store.js';
import type { Sharing } from './sharing.js';

const NAME = 'rotation';

/**
 * Which daemon does a rotation. That one leads spares work; nothing depends on it: every write of two that both think so would be
 * compared with what is there. A store that is not shared is led by its one process.
 */
export class Leadership {
  readonly #sharing: Sharing | undefined;
  #lease: Lease | undefined;
  #telling: Promise<unknown> = Promise.resolve();

  constructor(sharing: Sharing | undefined) {
    this.#sharing = sharing;
  }

  get isShared(): boolean {
    return this.#sharing !== undefined;
  }

  /** False while another daemon leads. */
  async take(): Promise<boolean> {
    if (this.#sharing === undefined || this.#lease?.lost.aborted === false) return true;
    this.#lease = await this.#sharing.store.lease(NAME);
    return this.#lease !== undefined;
  }

  /** The connection that the lead goes with is gone: another daemon may have taken it. */
  get isLost(): boolean {
    return this.#lease?.lost.aborted === true;
  }

  async release(): Promise<void> {
    const lease = this.#lease;
    this.#lease = undefined;
    await lease?.release();
  }

  async everyoneHas(generation: number, signal: AbortSignal): Promise<void> {
    await this.#sharing?.everyoneHas(generation, signal);
  }

  /** Lets the other daemons know, of one status after the other. */
  async tell(status: RotationStatus): Promise<void> {
    const { rotationId } = status;
    const store = this.#sharing?.store;
    if (store === undefined || rotationId === null) return;
    const telling = this.#telling.then(() => store.writeRotation({ rotationId, status: JSON.stringify(status) }));
    this.#telling = telling.catch(() => undefined);
    await telling;
  }

  /** What the leader of this rotation said last; undefined if none has. */
  async told(rotationId: string): Promise<RotationStatus | undefined> {
    const told = await this.#sharing?.store.readRotation();
    return told?.rotationId === rotationId ? (JSON.parse(told.status) as RotationStatus) : undefined;
  }
}
