import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';

/** A test's own key, in digits only: a YAML number, for whoever reads it as one. */
export const DIGITS = '0123456789'.repeat(6).concat('0123');

/** Writes a configuration file that goes with the test. */
export function configFile(t: ExecutionContext, yaml: string | Uint8Array, mode = 0o600): string {
  const directory = mkdtempSync(join(tmpdir(), 'kms-config-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, 'kms.yaml');
  writeFileSync(path, yaml);
  chmodSync(path, mode);
  return path;
}
