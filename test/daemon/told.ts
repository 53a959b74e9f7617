import { readSync } from 'node:fs';
import { KmsError } from '../../dist/errors.js';
import { binding, type Peer } from '../../dist/native.js';

/** A time limit that no test reaches. */
export const LONG_MS = 60_000;

/** What an acceptor told of its peers, in order. */
export class Told {
  readonly peers: Peer[] = [];
  readonly ready: Array<{ peer: Peer; firstByte: number; unread: string }> = [];
  readonly gone: Peer[] = [];
  private wake = () => {};

  constructor(private readonly admits = (_peer: Peer) => true) {}

  onPeer(peer: Peer): boolean {
    this.peers.push(peer);
    this.wake();
    return this.admits(peer);
  }

  onReady(fd: number, peer: Peer, firstByte: number): void {
    const bytes = Buffer.alloc(16);
    const length = readSync(fd, bytes);
    this.ready.push({ peer, firstByte, unread: bytes.toString('latin1', 0, length) });
    binding.closeFd(fd);
    this.wake();
  }

  onGone(peer: Peer): void {
    this.gone.push(peer);
    this.wake();
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
