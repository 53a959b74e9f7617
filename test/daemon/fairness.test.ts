import test from 'ava';
import { Connection } from '../../dist/daemon/connection.js';
import { READ_BUFFER_BYTES } from '../../dist/limits.js';
import { OP } from '../../dist/wire/frames.js';
import { Peer } from './peer.js';
import { running } from './running.js';

const SENT_BYTES = 48 * 1024 * 1024;

test('a connection that is always full of requests is read once in a turn, so that others have theirs', async (t) => {
  const { daemon } = await running(t, { dev: true }, { endpoints: [{ host: '127.0.0.1', port: 0 }] });
  const key = (await daemon.kms.createDek()).keyId;
  const peer = await Peer.connect(daemon.ports[0]!);
  let turn = 0;
  let ticking: NodeJS.Immediate;
  const tick = () => {
    turn++;
    ticking = setImmediate(tick);
  };
  tick();
  const takeChunk = Reflect.get(Connection.prototype, 'takeChunk');
  t.teardown(() => {
    Reflect.set(Connection.prototype, 'takeChunk', takeChunk);
    clearImmediate(ticking);
  });
  const fullReads: number[] = [];
  Reflect.set(Connection.prototype, 'takeChunk', function (this: Connection, input: Buffer, start: number, end: number) {
    if (end - start === READ_BUFFER_BYTES) fullReads.push(turn);
    takeChunk.call(this, input, start, end);
  });
  const parts = Array.from({ length: SENT_BYTES / 64_000 }, () => peer.prepare(OP.encrypt, [key, Buffer.alloc(64_000), null]));
  peer.write(...parts.map(({ frame }) => frame));
  const answers = await Promise.all(parts.map(({ answer }) => answer));
  await peer.close();
  t.true(answers.every(({ error }) => error === undefined));
  if (fullReads.length < 2) {
    t.log('SKIPPED: the kernel never had a full read for us');
    return;
  }
  t.log(`${fullReads.length} full reads`);
  t.is(new Set(fullReads).size, fullReads.length);
});
