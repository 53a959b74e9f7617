import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { HeldSocket } from '../../listening.js';
import { binding } from '../../native.js';
import { socketAt } from '../address.js';

/**
 * The listening socket, which is ours: each daemon accepts from it in turn, and who connects between two of them waits in
 * the kernel for the next.
 */
export class Place {
  private readonly held: HeldSocket;

  private constructor(
    readonly path: string,
    private readonly directory: string | undefined,
  ) {
    this.held = binding.holdUnix(path, 0o600);
  }

  /** Throws INVALID_ARGUMENT for what cannot be the path of a socket, CONFLICT if somebody listens there. */
  static at(socket: string | undefined): Place {
    if (socket !== undefined) {
      socketAt(socket);
      return new Place(socket, undefined);
    }
    const directory = mkdtempSync(join(tmpdir(), 'progressdb-kms-'));
    try {
      const path = join(directory, 'kms.sock');
      socketAt(path);
      return new Place(path, directory);
    } catch (error) {
      rmSync(directory, { recursive: true, force: true });
      throw error;
    }
  }

  get fd(): number {
    return this.held.fd;
  }

  /** Once no daemon has it either, whoever still waits is told that nobody comes. May be called again. */
  readonly remove = (): void => {
    this.held.close();
    if (this.directory !== undefined) rmSync(this.directory, { recursive: true, force: true });
  };
}
