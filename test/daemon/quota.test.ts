import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { KeyQuota } from '../../dist/daemon/quota.js';
import { createToken } from '../../dist/daemon/token-writer.js';
import { TOKEN_LOOK_MS } from '../../dist/limits.js';
import type { KeyDescription } from '../../dist/provider.js';
import { OP } from '../../dist/wire/frames.js';
import { askHttp } from './http-peer.js';
import { configIn, running, start } from './running.js';

const MOST = 3;

test('an identity makes as many keys as it may over both protocols, destroyed ones count, and so they do after a restart', async (t) => {
  const { daemon, directory, connect } = await running(t, { keysPerIdentity: `${MOST}` });
  const { token } = await createToken(join(directory, 'data'), { roles: ['client'] });
  await delay(TOKEN_LOOK_MS + 50);
  const peer = await connect();
  const outcomes = await Promise.all(Array.from({ length: MOST - 1 }, () => peer.outcome(OP.createDek, null)));
  t.deepEqual(outcomes, ['OK', 'OK']);
  const made = await askHttp(daemon.socket, { path: '/v1/keys', body: {} });
  t.is(made.status, 200);
  t.is(await peer.outcome(OP.createDekForThread, 'chat/1'), 'PERMISSION_DENIED');
  t.is((await askHttp(daemon.socket, { path: '/v1/keys', body: {} })).status, 403);
  const key = made.json?.['key_id'];
  t.is(await peer.outcome(OP.setKeyState, key, 'disabled'), 'OK');
  t.is(await peer.outcome(OP.setKeyState, key, 'destroyed'), 'OK');
  t.is(await peer.outcome(OP.createDek, null), 'PERMISSION_DENIED');
  const other = await connect();
  t.is(await other.outcome(OP.hello, 1, token), 'OK');
  t.is(await other.outcome(OP.createDek, null), 'OK', 'another identity has its own');
  await daemon.stop();

  const again = await start(t, configIn(directory, { keysPerIdentity: `${MOST}` }), directory);
  const back = await again.connect();
  t.is(await back.outcome(OP.createDek, null), 'PERMISSION_DENIED');
  t.is(await back.outcome(OP.hello, 1, token), 'OK');
  t.is(await back.outcome(OP.createDek, null), 'OK');
});

test('of many at once no more are made than may be, and what failed is not counted', async (t) => {
  const quota = new KeyQuota(MOST, async () => ({ keys: [], next: null }));
  let made = 0;
  const make = async () => {
    await delay(1);
    return ++made;
  };
  await t.throwsAsync(
    quota.create('a', () => Promise.reject(new Error('no disk'))),
    { message: 'no disk' },
  );
  const results = await Promise.allSettled(Array.from({ length: 10 }, () => quota.create('a', make)));
  t.is(results.filter(({ status }) => status === 'fulfilled').length, MOST);
  t.is(made, MOST);
  t.is(await quota.create('b', make), MOST + 1);
});

test('the keys are counted page by page, once, and anew after a count that failed', async (t) => {
  const queries: Array<string | undefined> = [];
  const pages: Record<string, { keys: KeyDescription[]; next: string | null }> = {
    '': { keys: [{ createdBy: 'a' }, { createdBy: 'b' }] as KeyDescription[], next: 'k_1' },
    k_1: { keys: [], next: 'k_2' },
    k_2: { keys: [{ createdBy: 'a' }] as KeyDescription[], next: null },
  };
  let fails = true;
  const glance = async (cursor: string | undefined) => {
    queries.push(cursor);
    if (fails && cursor === 'k_1') throw new Error('a disk');
    return pages[cursor ?? '']!;
  };
  const quota = new KeyQuota(2, glance);
  const make = async () => 'made';
  await t.throwsAsync(quota.create('b', make), { message: 'a disk' });
  fails = false;
  await t.throwsAsync(quota.create('a', make), { code: 'PERMISSION_DENIED' });
  t.is(await quota.create('b', make), 'made');
  await t.throwsAsync(quota.create('b', make), { code: 'PERMISSION_DENIED' });
  t.deepEqual(queries, [undefined, 'k_1', undefined, 'k_1', 'k_2']);
});
