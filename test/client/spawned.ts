import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { type SpawnedKms, type SpawnOptions, spawnKms } from '../../dist/client/index.js';
import { binding } from '../../dist/native.js';

export function scratch(t: ExecutionContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'kms-spawn-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** One line of what a spawner tells. */
export interface Told {
  level: string;
  event: string;
  fields: Record<string, unknown>;
}

/** A logger that keeps what it is told, and tells `heed` of it. */
export function listening(told: Told[], heed: (line: Told) => void = () => {}): NonNullable<SpawnOptions['logger']> {
  const take = (level: string) => (fields: Record<string, unknown>, event: string) => {
    told.push({ level, event, fields });
    heed({ level, event, fields });
  };
  return { debug: take('debug'), info: take('info'), warn: take('warn'), error: take('error') };
}

/** Options with a store and a key of their own, whose daemon says what it says to nobody. */
export function optionsIn(directory: string, options: SpawnOptions = {}): SpawnOptions {
  const masterKeyFile = join(directory, 'master.key');
  binding.writeKeyFile(masterKeyFile);
  // Far more than a start takes: what does not come at all is to be seen in the end.
  const patient = { startTimeoutMs: 60_000, logger: listening([]) };
  return { dataDir: join(directory, 'data'), masterKeyFile, ...patient, ...options };
}

export async function spawned(t: ExecutionContext, options: SpawnOptions): Promise<SpawnedKms> {
  const kms = await spawnKms(options);
  t.teardown(() => kms.stop());
  return kms;
}

/** Whether a process runs; one that only waits to be looked after by its parent does not. */
export function runs(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  if (process.platform !== 'linux') return true;
  try {
    return !/^\d+ \(.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return false;
  }
}

/** Far more than anything takes that is waited for. */
const PATIENCE_MS = 60_000;

/** Looks again and again, and throws if it never holds. */
export async function until(holds: () => boolean): Promise<void> {
  const end = performance.now() + PATIENCE_MS;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`it did not come to hold: ${holds}`);
    await delay(10);
  }
}
