import { ERROR_TABLE } from '../../errors.js';
import { awaitsStart, type RotationSummary, rotationSummaryOf } from '../../wire/messages.js';
import type { DaemonAddress } from '../address.js';
import { failureOf, MASTER_KEY_HINT } from '../failure.js';
import { columns, type Output, wireNames } from '../output.js';
import { type Access, openAccess, openDaemon } from '../provider.js';
import type { Settings } from '../settings.js';

/** Prints the state; the exit code says it too, so that a probe needs no parser. */
export async function statusCommand(settings: Settings, output: Output): Promise<number> {
  const access = await openAccess(settings, output);
  try {
    const status =
      access.kind === 'daemon'
        ? { ...wireNames(await access.kms.status()), ...placeOf(access.address) }
        : { ...(await offlineStatus(access)), socket: null };
    output.result(status, columns(Object.entries(status).map(([name, value]) => [name, textOf(value)])));
    return exitOf((status as Record<string, unknown>)['status']);
  } finally {
    await access.kms.close();
  }
}

async function offlineStatus({ kms, dataDir }: Access & { kind: 'offline' }): Promise<Record<string, unknown>> {
  const slots = await kms.slots();
  return {
    ...wireNames(await kms.health()),
    data_dir: dataDir,
    rotation: rotationSummaryOf(await kms.rotationStatus()),
    pending_slots: slots.filter(awaitsStart).length,
  };
}

/** A member of its own for what is no socket: whoever reads that one takes it for a path. */
function placeOf({ name, socket }: DaemonAddress): object {
  return socket === undefined ? { socket: null, endpoint: name } : { socket };
}

function exitOf(state: unknown): number {
  if (state === 'ok') return 0;
  return state === 'sealed' ? ERROR_TABLE.SEALED.exit : ERROR_TABLE.STORE_UNAVAILABLE.exit;
}

function textOf(value: unknown): string {
  if (value === null || value === undefined) return '-';
  if (!Array.isArray(value)) return typeof value === 'object' ? rotationText(value) : String(value);
  if (value.length === 0) return 'none';
  return value.map((item) => (typeof item === 'object' ? Object.values(item).join(': ') : String(item))).join(', ');
}

/** The one member that is a map. */
function rotationText(rotation: object): string {
  const { state, phase, total, done, due } = rotation as RotationSummary;
  const progress = phase === null ? '' : `, ${phase}, ${done} of ${total}`;
  return `${state}${progress}${due === null ? '' : `; due: ${due}`}`;
}

/** Wipes every key of the running daemon, or reads the master key again. */
export async function sealCommand(verb: 'seal' | 'unseal', settings: Settings, output: Output): Promise<void> {
  const { kms, address } = await openDaemon(settings);
  try {
    await kms[verb]();
    const state = verb === 'seal' ? 'sealed' : 'unsealed';
    output.result({ status: state === 'sealed' ? 'sealed' : 'ok' }, state);
  } catch (error) {
    const failure = failureOf(error);
    // The socket's caller is known by now: it is the master key that does not fit.
    throw failure.code === 'UNAUTHENTICATED' && address.socket !== undefined ? failure.with(MASTER_KEY_HINT) : failure;
  } finally {
    await kms.close();
  }
}
