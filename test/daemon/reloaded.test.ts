import test from 'ava';
import { type DaemonFlags, resolveConfig } from '../../dist/daemon/config.js';
import { reloaded } from '../../dist/daemon/reload.js';

const configOf = (flags: DaemonFlags) => resolveConfig({ dev: true, ...flags }, {});

test('whether loopback is open is decided at the start, what it may there is live', (t) => {
  const closed = configOf({});
  const open = configOf({ allowUnauthenticatedLoopback: true });
  const wider = configOf({ allowUnauthenticatedLoopback: true, unauthenticatedLoopbackRoles: 'client,auditor' });
  const rolesAfter = (before: typeof closed, next: typeof closed) =>
    [...reloaded(before, next).config.access.unauthenticatedLoopbackRoles].sort();
  t.deepEqual(rolesAfter(closed, wider), [], 'it does not open');
  t.deepEqual(rolesAfter(open, wider), ['auditor', 'client']);
  t.deepEqual(rolesAfter(open, closed), ['client'], 'it does not close either, as the log says');
  t.deepEqual(reloaded(closed, open).needsRestart, ['auth.allow_unauthenticated_loopback']);
});
