import test from 'ava';
import { Lines } from '../../dist/client/spawn/lines.js';

function linesOf(...pieces: string[]): string[] {
  const taken: string[] = [];
  const lines = new Lines((line) => taken.push(line));
  for (const piece of pieces) lines.push(piece);
  lines.end();
  return taken;
}

test('lines are put together from pieces, and the last needs no end', (t) => {
  t.deepEqual(linesOf('a', 'b\nc', 'd\n\ne\n', 'f'), ['ab', 'cd', 'e', 'f']);
  t.deepEqual(linesOf('\n'), []);
});

test('a line without an end is cut', (t) => {
  t.deepEqual(linesOf(...Array(100).fill('x'.repeat(1000)), '\nshort'), ['x'.repeat(16_384), 'short']);
});
