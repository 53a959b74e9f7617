import { join } from 'node:path';
import test from 'ava';
import { Tokens } from '../../dist/daemon/tokens.js';
import { TOKEN_LOOK_MS } from '../../dist/limits.js';
import { Stage } from './session.js';

test('what token create prints is taken by a daemon that was open before, until token revoke takes it away', async (t) => {
  const stage = await Stage.make();
  t.teardown(() => stage.clear());
  t.is((await stage.run('progressdb-kms init --master-key-file master.key')).exit, 0);
  let steady = 0;
  const tokens = new Tokens(join(stage.work, 'kms-data'), { wall: () => Date.now(), steady: () => steady });
  t.is(tokens.fault(), null);
  t.is(tokens.count(), 0);
  const made = await stage.run('progressdb-kms token create --role client --role auditor --expires-in 1h');
  const token = made.stdout.trim();
  steady += TOKEN_LOOK_MS;
  const identity = tokens.identify(token);
  t.deepEqual([...(identity?.roles ?? [])], ['client', 'auditor']);
  const tokenId = identity!.actor.slice('token:'.length);
  t.true(made.stderr.includes(tokenId));
  t.is((await stage.run(`progressdb-kms token revoke ${tokenId}`)).exit, 0);
  steady += TOKEN_LOOK_MS;
  t.is(tokens.identify(token), undefined);
  t.false(tokens.isCurrent(identity!));
});
