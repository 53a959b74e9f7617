import test from 'ava';
import { OP } from '../../dist/wire/frames.js';
import { encodeRequest } from '../../dist/wire/messages.js';
import { running } from './running.js';

const SHORT = { timeouts: { firstByteMs: 300, frameMs: 1000, writeStallMs: 1000 } };

test('a frame that is begun and not finished ends its connection, after the answers before it', async (t) => {
  const { connect, events } = await running(t, { dev: true }, SHORT);
  const peer = await connect();
  peer.write(encodeRequest(1, OP.hello, [1, null]), encodeRequest(2, OP.hello, [1, null]).subarray(0, 6));
  await peer.closed;
  t.deepEqual(
    peer.answers.map(({ id }) => id),
    [1],
  );
  t.true(events.some(({ event }) => event === 'frame_not_finished'));
});

test('a peer that never reads its answers is dropped; an idle one that owes nothing stays', async (t) => {
  const { connect, events } = await running(t, { dev: true }, SHORT);
  const idle = await connect();
  await idle.ask(OP.hello, 1, null);
  const peer = await connect();
  const key = (await peer.ask(OP.createDek, null)).results[0];
  peer.socket.pause();
  const lost = Array.from({ length: 200 }, () => peer.ask(OP.encrypt, key, Buffer.alloc(64 * 1024), null));
  const outcomes = Promise.allSettled(lost);
  // Not reading, it can only notice by its writes.
  await peer.closed;
  t.true((await outcomes).some(({ status }) => status === 'rejected'));
  t.true(events.some(({ event }) => event === 'peer_does_not_read'));
  t.is(await idle.outcome(OP.hello, 1, null), 'OK');
});

test('a peer that says nothing is cut off', async (t) => {
  const { connect } = await running(t, { dev: true }, SHORT);
  const peer = await connect();
  await peer.closed;
  t.deepEqual(peer.answers, []);
});
