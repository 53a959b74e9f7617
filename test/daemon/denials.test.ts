import test from 'ava';
import { type AuditEvent, type AuditLog, NO_AUDIT } from '../../dist/audit/audit-log.js';
import { Denials } from '../../dist/daemon/denials.js';
import { KmsError } from '../../dist/errors.js';

function noted(): { events: AuditEvent[]; log: AuditLog } {
  const events: AuditEvent[] = [];
  return { events, log: { ...NO_AUDIT, note: (event) => events.push(event) } };
}

const DENIAL = { actor: 'uid:7', operation: 'get_wrapped', outcome: 'PERMISSION_DENIED' } as const;

test('a refusal is one event: who, what, why, and from where if that is elsewhere', (t) => {
  const { events, log } = noted();
  const denials = new Denials(() => log);
  denials.note({ ...DENIAL, address: '192.0.2.1' });
  denials.note({ ...DENIAL, address: '' });
  t.deepEqual(events, [
    {
      type: 'denied',
      actor: 'uid:7',
      outcome: 'PERMISSION_DENIED',
      detail: { operation: 'get_wrapped', address: '192.0.2.1', count: 1 },
    },
    { type: 'denied', actor: 'uid:7', outcome: 'PERMISSION_DENIED', detail: { operation: 'get_wrapped', count: 1 } },
  ]);
});

test('after ten in a second the others are counted in groups, and none is lost', (t) => {
  const { events, log } = noted();
  const denials = new Denials(() => log);
  for (let i = 0; i < 500; i += 1) denials.note({ ...DENIAL, actor: `uid:${i % 2}` });
  t.is(events.length, 10);
  denials.turn();
  t.is(events.length, 12);
  t.deepEqual(
    events.slice(10).map(({ actor, detail }) => [actor, detail?.['count']]),
    [
      ['uid:0', 245],
      ['uid:1', 245],
    ],
  );
  denials.note(DENIAL);
  t.is(events.length, 13, 'the next second has single lines again');
});

test('however many there are who are refused, a second takes 43 lines, and the last one counts the rest', (t) => {
  const { events, log } = noted();
  const denials = new Denials(() => log);
  for (let i = 0; i < 10_000; i += 1) denials.note({ ...DENIAL, actor: `uid:${i}` });
  denials.turn();
  t.is(events.length, 10 + 32 + 1);
  const counted = events.reduce((sum, { detail }) => sum + Number(detail?.['count']), 0);
  t.is(counted, 10_000);
  t.like(events.at(-1), { actor: 'anonymous', detail: { operation: 'any', count: 10_000 - 42 } });
});

test('what is refused while there is no log is written when there is one', (t) => {
  const { events, log } = noted();
  let open: AuditLog | undefined;
  const denials = new Denials(() => open);
  denials.note(DENIAL, 3);
  denials.note(DENIAL);
  denials.turn();
  t.deepEqual(events, []);
  open = log;
  denials.turn();
  t.like(events, [{ actor: 'uid:7', detail: { count: 4 } }]);
  denials.turn();
  t.is(events.length, 1);
});

test('while no line can be written refusals are counted and not kept one by one', (t) => {
  const { events, log } = noted();
  let isFailed = true;
  const refuseIfFailed = () => {
    if (isFailed) throw new KmsError('AUDIT_UNAVAILABLE');
  };
  const denials = new Denials(() => ({ ...log, refuseIfFailed }));
  for (let second = 0; second < 100; second += 1) {
    denials.note(DENIAL);
    denials.turn();
  }
  t.deepEqual(events, []);
  isFailed = false;
  denials.turn();
  t.like(events, [{ actor: 'uid:7', detail: { count: 100 } }]);
});
