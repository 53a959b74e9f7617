import { readSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { KmsError } from '../../dist/errors.js';
import type { Peer } from '../../dist/listening.js';
import { binding } from '../../dist/native.js';

/** A time limit that no test reaches. */
export const LONG_MS = 60_000;
/** The largest there is. */
const LAST_MARK = 0xffffffff;

/** What an acceptor told of its peers, in order. */
export class Told {
  readonly peers: Peer[] = [];
  readonly ready: Array<{ peer: Peer; firstByte: number; unread: string }> = [];
  readonly gone: Peer[] = [];
  private wake = () => {};

  constructor(private readonly admits = (_peer: Peer) => true) {}

  onPeer(peer: Peer): number | undefined {
    const place = this.peers.push(peer) - 1;
    this.wake();
    return this.admits(peer) ? LAST_MARK - place : undefined;
  }

  onReady(fd: number, peer: Peer, firstByte: number, mark: number): void {
    this.check(peer, mark);
    const bytes = Buffer.alloc(16);
    const length = readSync(fd, bytes);
    this.ready.push({ peer, firstByte, unread: bytes.toString('latin1', 0, length) });
    binding.closeFd(fd);
    this.wake();
  }

  onGone(peer: Peer, mark: number): void {
    this.check(peer, mark);
    this.gone.push(peer);
    this.wake();
  }

  private check(peer: Peer, mark: number): void {
    if (!isDeepStrictEqual(this.peers[LAST_MARK - mark], peer)) throw new Error(`the mark ${mark} is of another peer`);
  }

  async until(holds: () => boolean): Promise<void> {
    while (!holds()) {
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
  }
}

/** The code that a call is refused with. */
export function codeOf(call: () => unknown): string {
  try {
    call();
    return 'OK';
  } catch (error) {
    return error instanceof KmsError ? error.code : String(error);
  }
}
