import { randomBytes } from 'node:crypto';
import test from 'ava';
import { HeldBytes, PartialFrame, SharedBuffers } from '../../dist/daemon/buffers.js';
import { MAX_FRAME_BYTES, MAX_HELD_BYTES } from '../../dist/limits.js';

function frameOf(body: Buffer): Buffer {
  const header = Buffer.alloc(4);
  header.writeUInt32BE(body.length);
  return Buffer.concat([header, body]);
}

test('a frame kept piece by piece is handed over whole', (t) => {
  const partial = new PartialFrame(new HeldBytes());
  const frame = frameOf(randomBytes(700_000));
  for (let at = 0; at < frame.length; at += 65_000) partial.append(frame, at, Math.min(at + 65_000, frame.length));
  t.is(partial.frameBytes, frame.length);
  t.true(partial.release().equals(frame));
  t.is(partial.length, 0);
});

test('what is moved before a chunk joins it without a gap, and nothing of it stays', (t) => {
  const partial = new PartialFrame(new HeldBytes());
  const secret = Buffer.from('\0half of a secret');
  partial.append(secret, 0, 8);
  const target = Buffer.alloc(32);
  secret.copy(target, 20, 8);
  const start = partial.moveBefore(target, 20);
  t.is(target.subarray(start, 29).toString(), '\0half of a secret');
  t.is(partial.length, 0);
  t.is(partial.frameBytes, 0);
});

test('an announced length reserves nothing; what arrives is counted and given back', (t) => {
  const held = new HeldBytes();
  const partial = new PartialFrame(held);
  const header = Buffer.from('00fffff0', 'hex');
  partial.append(header, 0, 4);
  t.true(held.take(MAX_HELD_BYTES), 'four bytes hold nothing');
  held.give(MAX_HELD_BYTES);
  partial.append(Buffer.alloc(100_000), 0, 100_000);
  t.false(held.take(MAX_HELD_BYTES));
  partial.clear();
  t.true(held.take(MAX_HELD_BYTES));
});

test('what a frame holds goes back to whom it was taken from, though the connection is somebody else’s by then', (t) => {
  const [before, after] = [new HeldBytes(), new HeldBytes()];
  const partial = new PartialFrame(before);
  partial.append(Buffer.alloc(100_000), 0, 100_000);
  partial.held = after;
  partial.append(Buffer.alloc(100_000), 0, 100_000);
  t.true(after.take(MAX_HELD_BYTES));
  t.false(before.take(MAX_HELD_BYTES));
  partial.clear();
  t.true(before.take(MAX_HELD_BYTES));
  after.give(MAX_HELD_BYTES);
  partial.append(Buffer.alloc(100_000), 0, 100_000);
  t.false(after.take(MAX_HELD_BYTES));
});

test('when all connections together hold too much, a growing frame is refused as BUSY', (t) => {
  const held = new HeldBytes();
  t.true(held.take(MAX_HELD_BYTES - 10_000));
  const partial = new PartialFrame(held);
  t.throws(() => partial.append(Buffer.alloc(100_000), 0, 100_000), { code: 'BUSY' });
});

test('a length above the limit is refused before its body is kept', (t) => {
  const partial = new PartialFrame(new HeldBytes());
  const header = Buffer.alloc(4);
  header.writeUInt32BE(MAX_FRAME_BYTES + 1);
  t.throws(() => partial.append(header, 0, 4), { code: 'TOO_LARGE' });
});

test('a response buffer that held plaintext comes back wiped', (t) => {
  const buffers = new SharedBuffers();
  const buffer = buffers.takeResponse();
  buffer.write('plaintext');
  buffers.giveResponse(buffer, 9);
  const again = buffers.takeResponse();
  t.is(again, buffer);
  t.deepEqual(again.subarray(0, 9), Buffer.alloc(9));
});
