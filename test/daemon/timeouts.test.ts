import test from 'ava';
import { OP } from '../../dist/wire/frames.js';
import { encodeRequest } from '../../dist/wire/messages.js';
import { running } from './running.js';
import { settled } from './settled.js';

const LONG = { firstByteMs: 60_000, frameMs: 60_000, writeStallMs: 60_000 };

/** Only what a test is about is short: a loaded machine is late with everything else. */
function short(change: Partial<typeof LONG>) {
  return { timeouts: { ...LONG, ...change } };
}

test('a frame that is begun and not finished ends its connection, after the answers before it', async (t) => {
  const { connect, events } = await running(t, { dev: true }, short({ frameMs: 1000 }));
  const peer = await connect();
  peer.write(encodeRequest(1, OP.hello, [1, null]), encodeRequest(2, OP.hello, [1, null]).subarray(0, 6));
  await peer.closed;
  t.deepEqual(
    peer.answers.map(({ id }) => id),
    [1],
  );
  await settled(() => events.some(({ event }) => event === 'frame_not_finished'));
});

test('a peer that never reads its answers is dropped; an idle one that owes nothing stays', async (t) => {
  const { connect, events } = await running(t, { dev: true }, short({ writeStallMs: 1000 }));
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
  await settled(() => events.some(({ event }) => event === 'peer_does_not_read'));
  t.is(await idle.outcome(OP.hello, 1, null), 'OK');
});

test('a peer that says nothing is cut off', async (t) => {
  const { connect } = await running(t, { dev: true }, short({ firstByteMs: 300 }));
  const peer = await connect();
  await peer.closed;
  t.deepEqual(peer.answers, []);
});
