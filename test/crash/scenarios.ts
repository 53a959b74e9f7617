import type { EmbeddedKms } from '../../dist/create.js';
import type { Bench, Scenario } from './laboratory.js';
import type { Witness } from './witness.js';

type Work = (witness: Witness<EmbeddedKms>) => Promise<void>;

/** One life of the service. */
export async function served(bench: Bench, work: Work, keyFile?: string): Promise<void> {
  const witness = await bench.open(keyFile);
  await work(witness);
  await witness.kms.close();
}

export function withKeys(count: number) {
  return async (bench: Bench): Promise<string[]> => {
    let keyIds: string[] = [];
    await served(bench, async (witness) => {
      keyIds = await witness.created(count);
    });
    return keyIds;
  };
}

/** Beyond the first block. */
const USES = 1_200;

export const STORE_SCENARIOS: ReadonlyArray<Scenario<string[]>> = [
  {
    name: 'making a store',
    before: async () => [],
    during: (bench) => served(bench, async (witness) => void (await witness.created(1))),
  },
  {
    name: 'creates at once',
    before: withKeys(1),
    during: (bench) => served(bench, async (witness) => void (await witness.created(3))),
  },
  {
    name: 'disable, enable, disable, destroy',
    before: withKeys(2),
    during: (bench, [keyId]) =>
      served(bench, async (witness) => {
        for (const state of ['disabled', 'active', 'disabled', 'destroyed'] as const) await witness.change(keyId!, state);
      }),
  },
  {
    name: 'reserving uses, blocking and not',
    before: withKeys(2),
    during: (bench, [blocking, other]) =>
      served(bench, async (witness) => {
        const { kms, ledger } = witness;
        for (let use = ledger.entry(blocking!).used; use < USES; use += 1) {
          kms.encryptSync(blocking!, Buffer.alloc(8));
          ledger.change(blocking!, { used: use + 1 });
        }
        for (let use = 0; use < USES; use += 1) await witness.use(other!);
      }),
  },
  {
    name: 'the first default key',
    before: withKeys(0),
    during: (bench) =>
      served(bench, async (witness) => {
        await witness.sealDefault();
        await witness.sealDefault();
      }),
  },
];
