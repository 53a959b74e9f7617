import { resolve } from 'node:path';
import { importKeys } from '../../import/import-keys.js';
import { keysIn } from '../../import/key-files.js';
import type { Finding } from '../../import/original-key.js';
import { endpointName, keysFrom } from '../../import/running-original.js';
import { Failure, failureOf } from '../failure.js';
import { type KeyProgress, keyProgress } from '../key-progress.js';
import { keysText, type Output } from '../output.js';
import { type Access, openOffline } from '../provider.js';
import type { Settings } from '../settings.js';

export interface ImportFlags {
  fromMasterKeyFile: string;
  from?: string;
  ids?: string;
}

/** Faults that are named one by one. */
const NAMED = 20;

export async function importCommand(paths: string[], flags: ImportFlags, settings: Settings, output: Output): Promise<void> {
  const findings = findingsOf(paths, flags);
  const { kms } = await opened(settings);
  let progress: KeyProgress | undefined;
  let faults = 0;
  try {
    const path = resolve(flags.fromMasterKeyFile);
    const importing = kms.importing({ kind: 'file', path, mayBeGroupReadable: false });
    try {
      const result = await importKeys(findings, importing, {
        actor: `uid:${process.getuid?.() ?? 0}`,
        source: flags.from === undefined ? paths.join(', ') : endpointName(flags.from),
        onFault: (where, reason) => {
          faults += 1;
          if (faults <= NAMED) output.note(`${where}: ${reason}`);
        },
        onChecked: (keys) => (progress = keyProgress('importing', keys, output.json)),
        onKey: () => progress?.one(),
      });
      progress?.stop();
      output.result(
        result,
        `imported ${keysText(result.imported)}${result.present > 0 ? `, and ${result.present} there already` : ''}`,
      );
      output.note('they are taken to have been used 2^30 times; the old master key is needed no more once all is checked');
    } finally {
      progress?.stop();
      importing.close();
    }
  } finally {
    await kms.close();
  }
}

function findingsOf(paths: readonly string[], { from, ids }: ImportFlags): AsyncGenerator<Finding> {
  if (from === undefined && ids === undefined && paths.length > 0) return keysIn(paths.map((path) => resolve(path)));
  if (from !== undefined && ids !== undefined && paths.length === 0) return keysFrom(from, resolve(ids));
  throw new Failure(
    'USAGE',
    'name files of keys, or a Go daemon with --from URL and --ids FILE',
    'files: .json of one key, or one key a line',
  );
}

async function opened(settings: Settings): Promise<Access & { kind: 'offline' }> {
  try {
    return await openOffline(settings);
  } catch (error) {
    const failure = failureOf(error);
    if (failure.code !== 'CONFLICT') throw failure;
    throw failure.with('an import works on the data directory itself: stop its daemon first');
  }
}
