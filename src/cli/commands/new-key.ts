import { resolve } from 'node:path';
import type { Output } from '../output.js';

/** Makes a master key file, 0600, that opens nothing yet. Never over another file: it may be the only key of a store. */
export async function newKeyCommand(file: string, output: Output): Promise<void> {
  const path = resolve(file);
  const { binding } = await import('../../native.js');
  binding.writeKeyFile(path);
  output.result({ master_key_file: path }, `made the master key file ${path}`);
  output.note('it opens nothing yet: `progressdb-kms rotate-kek` and `progressdb-kms slots add` take it');
}
