import { ERROR_TABLE } from '../../errors.js';
import { columns, type Output, wireNames } from '../output.js';
import { openAccess, openDaemon } from '../provider.js';
import type { Settings } from '../settings.js';

/** Prints the state; the exit code says it too, so that a probe needs no parser. */
export async function statusCommand(settings: Settings, output: Output): Promise<number> {
  const access = await openAccess(settings, output);
  try {
    const status =
      access.kind === 'daemon'
        ? { ...wireNames(await access.kms.status()), socket: access.socket }
        : { ...wireNames(await access.kms.health()), data_dir: access.dataDir, socket: null };
    output.result(status, columns(Object.entries(status).map(([name, value]) => [name, textOf(value)])));
    return exitOf((status as Record<string, unknown>)['status']);
  } finally {
    await access.kms.close();
  }
}

function exitOf(state: unknown): number {
  if (state === 'ok') return 0;
  return state === 'sealed' ? ERROR_TABLE.SEALED.exit : ERROR_TABLE.STORE_UNAVAILABLE.exit;
}

function textOf(value: unknown): string {
  if (value === null || value === undefined) return '-';
  if (!Array.isArray(value)) return String(value);
  if (value.length === 0) return 'none';
  return value.map((item) => (typeof item === 'object' ? Object.values(item).join(': ') : String(item))).join(', ');
}

/** Wipes every key of the running daemon, or reads the master key again. */
export async function sealCommand(verb: 'seal' | 'unseal', settings: Settings, output: Output): Promise<void> {
  const { kms } = await openDaemon(settings);
  try {
    await kms[verb]();
    const state = verb === 'seal' ? 'sealed' : 'unsealed';
    output.result({ status: state === 'sealed' ? 'sealed' : 'ok' }, state);
  } finally {
    await kms.close();
  }
}
