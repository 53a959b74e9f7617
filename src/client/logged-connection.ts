import type { BatchAad, CallOptions } from '../provider.js';
import { OPERATIONS } from '../wire/frames.js';
import { Connection, type ConnectionOptions } from './connection.js';
import type { Journal } from './journal.js';
import type { Kind } from './slots.js';

/** A class of its own, so that a connection whose requests nobody logs pays nothing for it. */
export class LoggedConnection extends Connection {
  private requests = 0;

  constructor(
    options: ConnectionOptions,
    private readonly journal: Journal,
  ) {
    super(options);
  }

  override callHot<T>(
    kind: Kind,
    op: number,
    keyId: string | undefined,
    data: Uint8Array,
    aad: Uint8Array | undefined,
    options: CallOptions | undefined,
  ): Promise<T> {
    return this.follow(op, bytesOf([data], aad), () => super.callHot(kind, op, keyId, data, aad, options));
  }

  override callBatch<T>(
    kind: Kind,
    op: number,
    keyId: string,
    items: readonly Uint8Array[],
    aad: BatchAad,
    options: CallOptions | undefined,
  ): Promise<T> {
    return this.follow(op, bytesOf(items, aad), () => super.callBatch(kind, op, keyId, items, aad, options));
  }

  override call(op: number, args: readonly unknown[], options: CallOptions | undefined): Promise<unknown[]> {
    return this.follow(op, 0, () => super.call(op, args, options));
  }

  private follow<T>(op: number, bytes: number, ask: () => Promise<T>): Promise<T> {
    return this.journal.follow(String(++this.requests), OPERATIONS[op]!.name, bytes, ask);
  }
}

function bytesOf(items: readonly Uint8Array[], aad: BatchAad): number {
  const aads: ReadonlyArray<Uint8Array | undefined> = aad instanceof Uint8Array ? [aad] : (aad ?? []);
  return [...items, ...aads].reduce((sum, item) => sum + (item?.length ?? 0), 0);
}
