import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';

/** A small file system of its own; undefined, said aloud, where this may not be had. */
export function smallDisk(t: ExecutionContext, directory: string, size: string): string | undefined {
  const path = join(directory, 'disk');
  try {
    if (process.platform !== 'linux' || process.getuid?.() !== 0) throw new Error('not root');
    mkdirSync(path, { mode: 0o700 });
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=0700`, 'tmpfs', path], { stdio: 'ignore' });
  } catch {
    t.log('SKIPPED: needs root and the right to mount a tmpfs');
    t.pass();
    return undefined;
  }
  t.teardown(() => execFileSync('umount', ['-l', path]));
  return path;
}
