import { readdirSync } from 'node:fs';
import { resolve } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { createToken, listTokens, type MadeToken } from '../../dist/daemon/token-writer.js';
import { Tokens } from '../../dist/daemon/tokens.js';
import { copyDirectory, newDataDir } from '../store/data-dir.js';
import { Child } from './child.js';
import { IS_FULL, points } from './extent.js';
import { newSeed, randomFrom } from './random.js';

const random = randomFrom(newSeed());
/** A sample is of these first points, which every change has. */
const SAMPLED = 5;
const SCRIPT = resolve('dist-test/crash/token-point-child.js');

interface Base {
  dataDir: string;
  kept: MadeToken;
  revoked: MadeToken;
}

async function baseOf(t: ExecutionContext): Promise<Base> {
  const dataDir = newDataDir(t);
  const kept = await createToken(dataDir, { roles: ['admin'], name: 'kept' });
  return { dataDir, kept, revoked: await createToken(dataDir, { roles: ['client'], name: 'revoked' }) };
}

interface Crash extends Base {
  /** The words of what the process had acknowledged, undefined for nothing. */
  said: string[] | undefined;
  tokens: Tokens;
}

/** Kills a process at every point of `operation` on a copy of the base, checks what is left, and that the next change works. */
async function atEveryPoint(t: ExecutionContext, operation: string, check: (crash: Crash) => Promise<void>): Promise<void> {
  const base = await baseOf(t);
  for (const cut of IS_FULL ? ['before', 'torn'] : ['before']) {
    let leftovers = 0;
    for (const point of points(SAMPLED, random)) {
      const dataDir = newDataDir(t);
      copyDirectory(base.dataDir, dataDir);
      const child = new Child([SCRIPT, operation, dataDir, String(point), cut, base.revoked.tokenId]);
      const { code, signal } = await child.ended;
      t.true(signal === 'SIGKILL' || code === 0, child.errors);
      const tokens = new Tokens(dataDir);
      t.is(tokens.fault(), null);
      t.deepEqual([...(tokens.identify(base.kept.token)?.roles ?? [])], ['admin'], 'another token is not touched');
      await check({ ...base, dataDir, said: child.lines.at(-1)?.split(' '), tokens });
      leftovers += temporariesIn(dataDir).length;
      const next = await createToken(dataDir, { roles: ['auditor'] });
      t.deepEqual(temporariesIn(dataDir), [], 'the next change removes what was left');
      t.truthy(new Tokens(dataDir).identify(next.token));
      if (code !== 0) continue;
      t.true(point >= (cut === 'torn' ? 1 : 5), 'the kills met the operation half-done');
      t.true(leftovers > 0, 'some left a temporary file');
      break;
    }
  }
}

function temporariesIn(dataDir: string): string[] {
  return readdirSync(dataDir).filter((name) => name.startsWith('.'));
}

test('a kill at any point of making a token leaves none or a whole one, and the one that was told', async (t) => {
  const seen = new Set<number>();
  await atEveryPoint(t, 'create', async ({ dataDir, said, tokens }) => {
    const made = (await listTokens(dataDir)).filter(({ name }) => name === 'new');
    seen.add(made.length);
    t.true(made.length <= 1);
    if (said === undefined) return;
    const [tokenId, token] = said as [string, string];
    t.is(made[0]?.tokenId, tokenId);
    t.is(tokens.identify(token)?.actor, `token:${tokenId}`);
  });
  if (IS_FULL) t.deepEqual([...seen].sort(), [0, 1], 'both outcomes were met');
});

test('a kill at any point of a revocation leaves the token whole or refused, and refused once that was told', async (t) => {
  const seen = new Set<boolean>();
  await atEveryPoint(t, 'revoke', async ({ revoked, said, tokens }) => {
    const isTaken = tokens.identify(revoked.token) !== undefined;
    seen.add(isTaken);
    if (said !== undefined) t.false(isTaken);
  });
  if (IS_FULL) t.is(seen.size, 2, 'both outcomes were met');
});
