import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { binding } from '../native.js';

/** A private directory with a fresh master key, for as long as something is measured. */
export class Scratch {
  /** The mode is 0700: mkdtemp makes no other. */
  readonly directory = mkdtempSync(join(tmpdir(), 'progressdb-kms-bench-'));
  readonly masterKeyFile = join(this.directory, 'master.key');
  readonly dataDir = join(this.directory, 'data');
  /** The ids of the keys, one a line. */
  readonly keyFile = join(this.directory, 'keys');

  constructor() {
    // For an end that nobody sees to.
    process.once('exit', this.remove);
    binding.writeKeyFile(this.masterKeyFile);
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  readonly remove = (): void => {
    process.off('exit', this.remove);
    rmSync(this.directory, { recursive: true, force: true });
  };
}
