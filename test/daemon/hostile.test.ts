import { randomBytes } from 'node:crypto';
import test from 'ava';
import { OP } from '../../dist/wire/frames.js';
import { encodeRequest } from '../../dist/wire/messages.js';
import { Peer } from './peer.js';
import { running } from './running.js';

/** xorshift32: the same numbers for the same seed. */
function generator(seed: number): (below: number) => number {
  let state = seed | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

test('random and mutated frames leave the daemon serving, and none of them is answered with an internal error', async (t) => {
  const seed = randomBytes(4).readUInt32BE();
  t.log(`seed ${seed}`);
  const random = generator(seed);
  const { daemon, connect, events } = await running(t);
  const control = await connect();
  const key = (await control.ask(OP.createDek, null)).results[0] as string;
  const samples = [
    encodeRequest(1, OP.encrypt, [key, Buffer.from('plaintext'), Buffer.from('aad')]),
    encodeRequest(2, OP.decrypt, [key, randomBytes(60), null]),
    encodeRequest(3, OP.encryptMany, [key, [Buffer.from('a'), Buffer.from('b')], [null, Buffer.from('x')]]),
    encodeRequest(4, OP.listKeys, [{ limit: 3 }]),
    encodeRequest(5, OP.createDekForThread, ['thread']),
    encodeRequest(6, OP.hello, [1, null]),
    encodeRequest(7, OP.encrypt, [null, Buffer.from('default'), null]),
  ];
  const codes = new Set<string>();
  for (let round = 0; round < 400; round++) {
    const peer = await Peer.connect(daemon.socket);
    const frames: Buffer[] = [encodeRequest(99, OP.hello, [1, null])];
    for (let index = 0; index < 20; index++) {
      const frame = Buffer.from(samples[random(samples.length)]!);
      const changes = random(4);
      for (let change = 0; change < changes; change++) frame[4 + random(frame.length - 4)] = random(256);
      if (random(40) === 0) frame.writeUInt32BE(random(2 ** 24));
      frames.push(frame);
    }
    // The half-closed stream ends the connection whether or not the last frame was finished.
    const ended = peer.closed;
    peer.write(...frames);
    peer.socket.end();
    await ended;
    for (const { error } of peer.answers) if (error) codes.add(error.code);
  }
  t.log([...codes].sort().join(' '));
  t.false(codes.has('INTERNAL'));
  t.true(codes.has('INVALID_ARGUMENT'));
  t.is(await control.outcome(OP.encrypt, key, Buffer.from('x'), null), 'OK');
  t.deepEqual(
    events.filter(({ level }) => level === 'error'),
    [],
  );
});
