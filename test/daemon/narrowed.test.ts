import test from 'ava';
import { resolveConfig } from '../../dist/daemon/config.js';
import { OP } from '../../dist/wire/frames.js';
import { askHttp, codeOf } from './http-peer.js';
import { configIn, running } from './running.js';

const OWN = process.getuid?.() ?? 0;
const X = Buffer.from('x');

test('a user that is narrowed to its own keys uses them and no other, and is no admin any more', async (t) => {
  const { daemon, connect, directory } = await running(t, { dev: true, narrowed: `uid:${OWN} own` });
  const foreign = await daemon.kms.createDek(undefined, { actor: 'somebody' });
  const peer = await connect();
  const own = (await peer.ask(OP.createDekForThread, 'thread')).results[0];
  for (let round = 0; round < 2; round++) {
    t.is(await peer.outcome(OP.encrypt, own, X, null), 'OK');
    t.is(await peer.outcome(OP.encrypt, foreign.keyId, X, null), 'PERMISSION_DENIED');
    t.is(await peer.outcome(OP.encryptMany, foreign.keyId, [X], null), 'PERMISSION_DENIED');
  }
  t.is(await peer.outcome(OP.encrypt, null, X, null), 'PERMISSION_DENIED', 'the default key is everybody’s');
  t.is(await peer.outcome(OP.listKeys, {}), 'PERMISSION_DENIED');
  t.is(await peer.outcome(OP.setKeyState, own, 'disabled'), 'OK');
  const body = { key_id: foreign.keyId, plaintext: 'eA==' };
  t.is(codeOf(await askHttp(daemon.socket, { path: '/encrypt', body })), 'PERMISSION_DENIED');
  daemon.prepare({ ...configIn(directory, { dev: true }) })();
  await peer.closed;
  const again = await connect();
  t.is(await again.outcome(OP.encrypt, foreign.keyId, X, null), 'OK', 'after a reload that says no more of it');
  t.is(await again.outcome(OP.listKeys, {}), 'OK');
});

test('what is narrowed is told, as it was written', (t) => {
  const { shown, access } = resolveConfig({ dev: true, narrowed: 'uid:1 own thread:a, uid:2 thread:c' }, {});
  const { narrowed } = access;
  t.deepEqual(Object.entries(narrowed!), [
    ['uid:1', { threadPrefixes: ['a'], own: true }],
    ['uid:2', { threadPrefixes: ['c'] }],
  ]);
  t.deepEqual(shown.find(({ key }) => key === 'auth.narrowed')?.value, ['uid:1 own thread:a, uid:2 thread:c']);
});
