import test from 'ava';
import fc from 'fast-check';
import { beginning, Chain } from '../../dist/audit/verify/chain.js';
import { LineScanner } from '../../dist/audit/verify/scanner.js';
import { ERROR_TABLE } from '../../dist/errors.js';
import { newSeed } from '../crash/random.js';
import { rowsOf } from '../house/sources.js';
import { DATA_TYPES, type Members, WrittenLog } from './written.js';

const seed = newSeed();
const actor = fc.stringMatching(/^[A-Za-z0-9._:@/-]{1,64}$/);
const value = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 64 }),
  fc.maxSafeInteger(),
  fc.double({ noNaN: true, noDefaultInfinity: true }).filter((number) => !Object.is(number, -0)),
  fc.boolean(),
  fc.constant(null),
);
const RESERVED = ['seq', 'time', 'boot', 'prev', 'type', 'actor', 'key_id', 'thread_id', 'outcome', 'generation'];
const name = fc.stringMatching(/^[a-z][a-z0-9_]{0,20}$/).filter((text) => !RESERVED.includes(text));
const event = fc.record(
  {
    type: fc.constantFrom('stop', 'create_dek', 'encrypt', 'decrypt', 'get_wrapped', 'token', 'denied', 'unseal'),
    actor,
    key_id: fc.stringMatching(/^k_[0-9a-z]{1,64}$/),
    thread_id: fc.oneof(fc.constant(''), fc.stringMatching(/^[A-Za-z0-9._:@/-]{1,256}$/)),
    outcome: fc.constantFrom('ok', ...Object.keys(ERROR_TABLE)),
    own: fc.dictionary(name, value, { maxKeys: 8, noNullPrototype: true }) as fc.Arbitrary<Members>,
  },
  { requiredKeys: ['type', 'actor'] },
);

test('whatever an event holds, its line is read as what was written', (t) => {
  t.log(`seed ${seed}`);
  const log = new WrittenLog();
  log.boot = '0123456789abcdef';
  const scanner = new LineScanner();
  fc.assert(
    fc.property(event, (written) => {
      const { seq } = log.event(written);
      log.write(written);
      const line = log.lines.at(-1) as Buffer;
      if (line.length >= 8192) return;
      t.is(scanner.scan(line, 0, line.length), undefined, String(line));
      const read = scanner.event();
      t.deepEqual(read as object, JSON.parse(String(line)).event);
      t.like(read, JSON.parse(JSON.stringify({ ...written.own, actor: written.actor })));
      t.is(scanner.seq, Number(seq));
      t.is(scanner.type as string, written.type);
      t.is(scanner.prev, read['prev'] as string);
      t.is(scanner.generation, DATA_TYPES.includes(written.type) ? -1 : 1);
      t.is(
        Buffer.from(line.subarray(scanner.eventAt, scanner.eventEnd)).toString(),
        JSON.stringify(JSON.parse(String(line)).event),
      );
    }),
    { seed, numRuns: 500 },
  );
});

test('whatever bytes a line holds, it is read or refused with a word, and nothing is thrown', (t) => {
  t.log(`seed ${seed}`);
  const log = new WrittenLog();
  log.start();
  log.write({ type: 'denied', own: { a: 'é\n', b: -1.5e-7, c: null, d: 'half a pair: \ud83d' } });
  const half = log.lines.at(-1) as Buffer;
  t.is(new LineScanner().scan(half, 0, half.length), undefined);
  const scanner = new LineScanner();
  const refused = (bytes: Buffer) => {
    const wrong = scanner.scan(bytes, 0, bytes.length);
    const chain = new Chain({ publicKey: log.first.publicKey }, beginning(log.first.publicKey));
    const fault = chain.take(bytes, 0, bytes.length, 'log', 1);
    if (wrong !== undefined) t.is(fault?.what, wrong);
    // What is taken is what would be written.
    else t.is(JSON.stringify(JSON.parse(bytes.toString())), bytes.toString());
  };
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => refused(Buffer.from(bytes))),
    { seed, numRuns: 2000 },
  );
  const spliced = fc.tuple(fc.constantFrom(...log.lines), fc.nat(600), fc.nat(20), fc.uint8Array({ maxLength: 12 }));
  fc.assert(
    fc.property(spliced, ([line, at, removed, added]) =>
      refused(Buffer.concat([line.subarray(0, at), added, line.subarray(at + removed)])),
    ),
    { seed, numRuns: 5000 },
  );
  const text = fc.string({
    unit: fc.constantFrom('"', '\\', 'u', '0', ',', ':', '{', '}', 'n', '1', '-', '.', 'e', 'é'),
    maxLength: 12,
  });
  const inside = String(log.lines.at(-1));
  fc.assert(
    fc.property(text, (put) => refused(Buffer.from(inside.replace('"a":"é\\n"', () => `"a":${put}`)))),
    { seed, numRuns: 5000 },
  );
});

test('docs/AUDIT.md says of each type of docs/FORMATS.md when it is written, and each of them is read', (t) => {
  const names = (text: string) => [...text.matchAll(/`([a-z_]+)`/g)].map(([, type]) => type as string);
  const types = names(rowsOf('docs/FORMATS.md', /^`type`$/)[0]?.[1] ?? '').filter((type) => type !== 'type');
  t.true(types.length > 20);
  const documented = rowsOf('docs/AUDIT.md', /^`[a-z_]+`(, `[a-z_]+`)*$/).filter((cells) => cells.length === 3);
  t.deepEqual(documented.flatMap(([cell]) => names(cell as string)).sort(), [...types].sort());
  const log = new WrittenLog();
  log.boot = '0123456789abcdef';
  for (const type of types) {
    log.write({ type });
    const line = log.lines.at(-1) as Buffer;
    t.is(new LineScanner().scan(line, 0, line.length), undefined, type);
  }
});
