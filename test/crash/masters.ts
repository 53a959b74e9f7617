import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { binding } from '../../dist/native.js';
import { newDataDir } from '../store/data-dir.js';

/** Key files of three masters; those of a simulated disk lie on the real one, where native code reads them. */
export function masterFiles(t: ExecutionContext): string[] {
  const directory = newDataDir(t);
  return ['first', 'second', 'third'].map((name) => {
    const file = join(directory, `${name}.key`);
    binding.writeKeyFile(file);
    return file;
  });
}
