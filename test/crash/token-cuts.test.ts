import test, { type ExecutionContext } from 'ava';
import { createToken, listTokens, revokeToken } from '../../dist/daemon/token-writer.js';
import type { FileSystem } from '../../dist/store/file-system.js';
import { newDataDir } from '../store/data-dir.js';
import { withoutBarrier } from './barriers.js';
import { CrashFileSystem } from './crash-file-system.js';
import { Disk } from './disk.js';
import { powerCuts } from './power-cuts.js';
import { newSeed, randomFrom } from './random.js';

/** The names of tokens that must be there, and those that may be: a change that was not answered is old or new. */
interface Promised {
  must: string[];
  may: string[];
}

interface Crash extends Promised {
  disk: Disk;
}

/** An empty simulated disk on which the directory of `path` is there. The lock of the tokens is taken on the real one. */
async function diskWith(path: string, random: () => number): Promise<CrashFileSystem> {
  const system = new CrashFileSystem(Disk.empty(), random);
  const parts = path.split('/').filter((part) => part !== '');
  for (const at of parts.keys()) await system.mkdir(`/${parts.slice(0, at + 1).join('/')}`, 0o700);
  system.disk.forgetUnsynced();
  return system;
}

async function crashesOf(dataDir: string, system: CrashFileSystem, through: FileSystem): Promise<Crash[]> {
  const crashes: Crash[] = [];
  const promised: Promised = { must: [], may: [] };
  system.onChange = () => crashes.push({ disk: system.disk.fork(), must: [...promised.must], may: [...promised.may] });
  promised.may = ['one'];
  const { tokenId } = await createToken(dataDir, { roles: ['client'], name: 'one' }, through);
  promised.must = ['one'];
  promised.may = ['one', 'two'];
  await createToken(dataDir, { roles: ['admin'], name: 'two' }, through);
  promised.must = ['two'];
  await revokeToken(dataDir, tokenId, through);
  promised.may = ['two'];
  system.onChange('the end');
  system.onChange = () => {};
  return crashes;
}

/** How many disks were looked at. Throws at the first that keeps less than was promised, or cannot be changed on. */
async function explored(t: ExecutionContext, seed: number, broken = (system: FileSystem) => system): Promise<number> {
  const random = randomFrom(seed);
  const dataDir = newDataDir(t);
  const system = await diskWith(dataDir, random);
  let looked = 0;
  for (const { disk, must, may } of await crashesOf(dataDir, system, broken(system))) {
    for (const left of powerCuts(disk, 256, random).values()) {
      looked += 1;
      const after = new CrashFileSystem(left, random);
      const names = (await listTokens(dataDir, after)).map(({ name }) => name);
      for (const name of must) if (!names.includes(name)) throw new Error(`${name} is gone`);
      for (const name of names) if (!may.includes(name)) throw new Error(`${name} is back`);
      await createToken(dataDir, { roles: ['auditor'], name: 'next' }, after);
      const leftover = [...left.walk()].find(([path]) => path.endsWith('.tmp'));
      if (leftover !== undefined) throw new Error(`${leftover[0]} was left`);
    }
  }
  return looked;
}

test('no power cut undoes a token that was told, or brings a revoked one back, and the next change removes what it left', async (t) => {
  const seed = newSeed();
  const looked = await explored(t, seed);
  t.log(`seed ${seed}: ${looked} disks`);
  t.true(looked > 30);
});

for (const [what, of] of [
  ['the file', '.tokens.json.tmp'],
  ['the directory', undefined],
] as const) {
  test(`control: a token file written without the fsync of ${what} is found`, async (t) => {
    const isLost = (name: string) => (of === undefined ? name !== '.tokens.json.tmp' : name === of);
    await t.throwsAsync(explored(t, newSeed(), withoutBarrier(isLost)), { message: /gone|back|tokens\.json/ });
  });
}
