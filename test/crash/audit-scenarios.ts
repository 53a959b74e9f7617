import type { Scenario } from './laboratory.js';
import { served, withKeys } from './scenarios.js';

export const AUDIT_SCENARIOS: ReadonlyArray<Scenario<string[]>> = [
  {
    name: 'a first audit log, and the next start',
    audit: {},
    before: async () => [],
    during: async (bench) => {
      await served(bench, async (witness) => void (await witness.created(1)));
      await served(bench, async (witness) => void (await witness.created(1)));
    },
  },
  {
    name: 'audited changes at once, over files of a few lines',
    audit: { maxFileBytes: 2_000 },
    before: withKeys(3),
    during: (bench, [one, two, three]) =>
      served(bench, async (witness) => {
        await Promise.all([one, two].map((keyId) => witness.change(keyId!, 'disabled')));
        await Promise.all([witness.created(2), witness.change(three!, 'disabled')]);
        await witness.change(three!, 'destroyed');
      }),
  },
];
