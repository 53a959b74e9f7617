import { KmsError } from '../../errors.js';
import type { Service } from '../operations.js';
import { each, gauge, one, type Sample, type Series } from './series.js';

type Kms = Service['kms'];

const STATES = ['idle', 'running', 'blocked', 'failed'] as const;
const SLOT_STATES = ['active', 'pending', 'successor'] as const;

/** Nothing while sealed: then nobody can tell. */
async function unlessSealed(read: () => Promise<Sample[]>): Promise<Sample[]> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof KmsError && error.code === 'SEALED') return [];
    throw error;
  }
}

/** What keys are wrapped under, and what opens the store. */
export function rotationSeries(kms: Kms): Series[] {
  const status = (name: string, help: string, read: (of: Awaited<ReturnType<Kms['rotationStatus']>>) => Sample[]) =>
    gauge(name, help, () => unlessSealed(async () => read(await kms.rotationStatus())));
  const kek = (name: string, help: string, read: (of: NonNullable<Kms['activeKek']>) => number) =>
    gauge(name, help, () => (kms.activeKek === null ? [] : one(read(kms.activeKek))));
  return [
    status('rotation_state', '1 for the state of the rotation of the KEK.', ({ state }) =>
      each('state', STATES, (which) => Number(which === state)),
    ),
    status('rotation_keys_total', 'Keys that the rotation has to move.', ({ total }) => one(total)),
    status('rotation_keys_done', 'Keys that it has moved.', ({ done }) => one(done)),
    status('rotation_due', '1 while a rotation is due.', ({ due }) => one(Number(due !== null))),
    kek('kek_age_seconds', 'Age of the active KEK.', ({ createdAt }) => (Date.now() - Date.parse(createdAt)) / 1_000),
    kek('kek_wraps', 'Keys wrapped under the active KEK, as far as reserved.', ({ wrapsReserved }) => wrapsReserved),
    gauge('slots', 'Master keys that open the store; those that are not active have opened no start yet.', () =>
      unlessSealed(async () => {
        const slots = (await kms.slots()).filter(({ kind }) => kind === 'master');
        return each('state', SLOT_STATES, (which) => slots.filter(({ state }) => state === which).length);
      }),
    ),
  ];
}
