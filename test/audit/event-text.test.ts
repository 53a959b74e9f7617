import test from 'ava';
import fc from 'fast-check';
import type { AuditEvent } from '../../dist/audit/audit-log.js';
import { membersOf } from '../../dist/audit/event-text.js';
import { newSeed } from '../crash/random.js';

const seed = newSeed();
// Lone surrogates and control characters too.
const text = fc.string({ unit: fc.nat(0xffff).map((code) => String.fromCharCode(code)), maxLength: 20 });
const value = fc.oneof(text, fc.double(), fc.maxSafeInteger(), fc.boolean(), fc.constant(null), fc.constant(undefined));
const name = fc.stringMatching(/^[a-z][a-z_]{0,20}$/).filter((one) => !['type', 'actor', 'generation'].includes(one));

test(`an event is told as JSON.stringify tells its members, whatever is in it (seed ${seed})`, (t) => {
  const event = fc.record({ actor: text, detail: fc.dictionary(name, value) });
  fc.assert(
    fc.property(event, fc.option(fc.maxSafeInteger(), { nil: undefined }), ({ actor, detail }, generation) => {
      const told = membersOf({ type: 'start', actor, detail: detail as NonNullable<AuditEvent['detail']> }, generation);
      return `{${told}}` === JSON.stringify({ type: 'start', actor, generation, ...detail });
    }),
    { seed, numRuns: 500 },
  );
  t.pass();
});

test('what is not there is not told', (t) => {
  t.is(membersOf({ type: 'stop', actor: 'a', threadId: '' }), '"type":"stop","actor":"a"');
  const detail = { a: undefined, b: null } as unknown as NonNullable<AuditEvent['detail']>;
  t.is(
    membersOf({ type: 'stop', actor: 'a', outcome: 'ok', detail }, 3),
    '"type":"stop","actor":"a","outcome":"ok","generation":3,"b":null',
  );
});
