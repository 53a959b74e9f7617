import test from 'ava';
import { type Access, identify, may } from '../../dist/daemon/identity.js';

const NOBODY: Access = { allowedUids: [], adminUids: [], auditorUids: [], unauthenticatedLoopbackRoles: [] };

function rolesOf(uid: number, own: number, access: Partial<Access> = {}): string {
  return [...(identify(uid, own, { ...NOBODY, ...access })?.roles ?? [])].sort().join(' ');
}

test('with nothing configured only the daemon’s own uid is admitted, as admin and client', (t) => {
  t.is(rolesOf(1000, 1000), 'admin client');
  t.is(rolesOf(1001, 1000), '');
  t.is(rolesOf(0, 0), 'admin client');
});

test('root is nobody special unless it is listed or runs the daemon', (t) => {
  t.is(rolesOf(0, 1000), '');
  t.is(rolesOf(0, 1000, { allowedUids: [0] }), 'client');
});

test('each list gives its role, and roles add up', (t) => {
  t.is(rolesOf(7, 1000, { allowedUids: [7] }), 'client');
  t.is(rolesOf(7, 1000, { adminUids: [7] }), 'admin');
  t.is(rolesOf(7, 1000, { auditorUids: [7] }), 'auditor');
  t.is(rolesOf(7, 1000, { allowedUids: [7], auditorUids: [7] }), 'auditor client');
});

test('the uids that stand for anybody are never admitted, even when listed or own', (t) => {
  for (const uid of [65534, 0xffffffff, -1]) {
    t.is(rolesOf(uid, 1000, { allowedUids: [uid], adminUids: [uid] }), '');
    t.is(rolesOf(uid, uid), '');
  }
});

test('the own uid gets what the lists say once roles are configured and name it', (t) => {
  t.is(rolesOf(1000, 1000, { auditorUids: [1000] }), 'auditor');
  t.is(rolesOf(1000, 1000, { allowedUids: [1000], adminUids: [5] }), 'client');
  t.is(rolesOf(1000, 1000, { allowedUids: [5], adminUids: [5] }), 'admin client');
});

test('naming the own uid in allowed_uids alone takes nothing from it', (t) => {
  t.is(rolesOf(1000, 1000, { allowedUids: [1000, 1001] }), 'admin client');
});

test('admin may everything; client and auditor do not include each other', (t) => {
  const admin = identify(1, 1000, { ...NOBODY, adminUids: [1] });
  const client = identify(1, 1000, { ...NOBODY, allowedUids: [1] });
  const auditor = identify(1, 1000, { ...NOBODY, auditorUids: [1] });
  t.truthy(admin && client && auditor);
  if (!(admin && client && auditor)) return;
  t.deepEqual([may(admin, 'client'), may(admin, 'auditor'), may(admin, 'admin')], [true, true, true]);
  t.deepEqual([may(client, 'client'), may(client, 'auditor'), may(client, 'admin')], [true, false, false]);
  t.deepEqual([may(auditor, 'client'), may(auditor, 'auditor'), may(auditor, 'admin')], [false, true, false]);
  t.is(admin.actor, 'uid:1');
});
