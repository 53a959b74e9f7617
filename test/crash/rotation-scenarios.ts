import { readFileSync } from 'node:fs';
import type { Bench, Scenario } from './laboratory.js';
import { served, withKeys } from './scenarios.js';

/** Five keys: three active, one disabled, one destroyed. */
async function fiveKeys(bench: Bench): Promise<string[]> {
  let keyIds: string[] = [];
  await served(bench, async (witness) => {
    keyIds = await witness.created(5);
    await witness.change(keyIds[3]!, 'disabled');
    await witness.change(keyIds[4]!, 'disabled');
    await witness.change(keyIds[4]!, 'destroyed');
  });
  for (const keyId of keyIds.slice(0, 4)) bench.ledger.moved.add(keyId);
  return keyIds;
}

function hexOf(keyFile: string): string {
  return readFileSync(keyFile, 'utf8').trim();
}

export const ROTATION_SCENARIOS: ReadonlyArray<Scenario<string[]>> = [
  {
    name: 'a rotation of one key',
    before: async (bench) => {
      const [keyId] = await withKeys(1)(bench);
      bench.ledger.moved.add(keyId!);
      return [keyId!];
    },
    during: (bench) => served(bench, async (witness) => void (await witness.kms.rotateKek({ wait: true }))),
  },
  {
    name: 'a rotation, with keys made, disabled and destroyed beside it',
    before: fiveKeys,
    during: (bench, [one, , three, disabled]) =>
      served(bench, async (witness) => {
        const rotating = witness.kms.rotateKek({ wait: true });
        await Promise.all([
          rotating,
          witness.create().then((keyId) => witness.seal(keyId)),
          witness.change(one!, 'disabled'),
          witness.change(disabled!, 'destroyed'),
          witness.seal(three!),
        ]);
      }),
  },
  {
    name: 'two rotations, and a key destroyed after them',
    before: fiveKeys,
    during: (bench, [one]) =>
      served(bench, async (witness) => {
        await witness.kms.rotateKek({ wait: true });
        await witness.kms.rotateKek({ wait: true });
        await witness.change(one!, 'disabled');
        await witness.change(one!, 'destroyed');
      }),
  },
  {
    name: 'a rotation with a new master key, and the start that uses it',
    before: fiveKeys,
    during: async (bench) => {
      const [second] = bench.masters as [string];
      const [first] = [...bench.ledger.masters.keys()] as [string];
      await served(bench, async (witness) => {
        bench.ledger.masters.set(second, 'maybe');
        await witness.kms.rotateKek({ newMasterKeyFile: second, wait: true });
        bench.ledger.masters.set(second, 'yes');
      });
      bench.ledger.masters.set(first, 'maybe');
      await served(
        bench,
        async (witness) => {
          bench.ledger.masters.set(first, 'no');
          await witness.create();
        },
        second,
      );
    },
  },
  {
    name: 'a rewrap of one key, with a master key and without',
    before: fiveKeys,
    during: (bench, [one, two]) =>
      served(bench, async (witness) => {
        const [second] = bench.masters as [string];
        const rewraps = async () => {
          bench.ledger.masters.set(second, 'maybe');
          await witness.kms.rewrapDek(one!, { newKekHex: hexOf(second) });
          bench.ledger.masters.set(second, 'yes');
          await witness.kms.rewrapDek(two!);
        };
        await Promise.all([witness.kms.rotateKek({ keysPerSecond: 1_000, wait: true }), rewraps()]);
      }),
  },
  {
    name: 'a slot added, used, and the first one removed',
    before: fiveKeys,
    during: async (bench) => {
      const [second, third] = bench.masters as [string, string];
      const [first] = [...bench.ledger.masters.keys()] as [string];
      await served(bench, async ({ kms }) => {
        for (const file of [second, third]) {
          bench.ledger.masters.set(file, 'maybe');
          await kms.addSlot({ masterKeyFile: file });
          bench.ledger.masters.set(file, 'yes');
        }
      });
      await served(
        bench,
        async ({ kms }) => {
          const slot = (await kms.slots()).find(({ inUse }) => !inUse);
          bench.ledger.masters.set(first, 'maybe');
          await kms.removeSlot(slot!.slotId);
          bench.ledger.masters.set(first, 'no');
        },
        second,
      );
    },
  },
];
