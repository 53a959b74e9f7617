import { migrateStore, removeMigrated } from '../../backup/migrate.js';
import { KmsError } from '../../errors.js';
import type { StoreKind } from '../../store/key-store.js';
import type { PostgresSettings } from '../../store/postgres-settings.js';
import { Failure, failureOf } from '../failure.js';
import { type KeyProgress, keyProgress } from '../key-progress.js';
import { columns, type Output, wireNames } from '../output.js';
import { databaseOf, type Settings } from '../settings.js';

export interface MigrateFlags {
  to?: StoreKind | 'postgres';
  removeSource?: boolean;
}

/** Left-out backups that are named one by one. */
const NAMED = 5;

export async function migrateCommand({ to, removeSource }: MigrateFlags, settings: Settings, output: Output): Promise<void> {
  const dataDir = settings.dataDir.value;
  if ((to === undefined) === (removeSource === undefined)) {
    throw new Failure('USAGE', 'give one of --to KIND and --remove-source', 'the old store is removed by a command of its own');
  }
  try {
    if (to === undefined) await removed(settings, output);
    else await migrated(dataDir, to === 'postgres' ? databaseOf(settings) : to, output);
  } catch (error) {
    throw stopped(error);
  }
}

async function migrated(dataDir: string, to: StoreKind | PostgresSettings, output: Output): Promise<void> {
  let progress: KeyProgress | undefined;
  const onStep = (step: string, records: number) => {
    progress?.stop();
    const shown = keyProgress(step, records, output.json);
    progress = shown;
    return () => shown.one();
  };
  try {
    const moved = await migrateStore({ dataDir, to, onStep });
    progress?.stop();
    const rows: Array<[string, string]> = [
      ['data directory', dataDir],
      ['store', `${moved.to}, before ${moved.from}`],
      ['keys', String(moved.records)],
      ['of rotations', String(moved.kept)],
      ['documents', String(moved.documents)],
      ['written', String(moved.written)],
    ];
    output.result({ data_dir: dataDir, ...wireNames(moved) }, columns(rows));
    if (moved.leftOut.length > 0) output.note(`damaged backups that only the old store has: ${named(moved.leftOut)}`);
    output.note('the old store stays as it is, and is older with every write: `progressdb-kms store migrate --remove-source`');
  } finally {
    progress?.stop();
  }
}

async function removed({ dataDir: { value: dataDir }, postgres }: Settings, output: Output): Promise<void> {
  const { live, removed } = await removeMigrated(dataDir, postgres);
  const text = removed.length === 0 ? 'nothing is left of the old store' : `removed ${removed.join(', ')}`;
  output.result({ data_dir: dataDir, store: live, removed }, `${text}\nthe keys are in ${live}`);
}

/** A daemon has the directory, more often than not. */
function stopped(error: unknown): unknown {
  if (!(error instanceof KmsError && error.code === 'CONFLICT' && error.message.includes('another process'))) return error;
  return failureOf(error).with('a migration works on the data directory itself: stop its daemon first');
}

function named(names: readonly string[]): string {
  const more = names.length > NAMED ? ` and ${names.length - NAMED} more` : '';
  return names.slice(0, NAMED).join(', ') + more;
}
