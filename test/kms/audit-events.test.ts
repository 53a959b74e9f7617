import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import type { AuditEvent, AuditLog } from '../../dist/audit/audit-log.js';
import { KmsError } from '../../dist/errors.js';
import type { NewMaster } from '../../dist/kms/new-master.js';
import { openMemoryStore } from '../../dist/store/memory.js';
import { administered } from './administered.js';
import { K1, K2, remembered, storeWith } from './stores.js';

const NEW: NewMaster = { name: 'newKekHex', value: K2, isFile: false };
const ORDER = { actor: 'uid:7', abandon: [] };

test('a rotation tells of its begin and its end, by whom and which', async (t) => {
  const audit = remembered();
  const { administration, keys } = await administered(t, openMemoryStore(), K1, audit);
  for (let n = 0; n < 3; n += 1) await keys.create('', 'uid:1');
  const { rotationId } = await administration.rotate(ORDER, undefined, true);
  const detail = { rotation_id: rotationId, kek_version: 2 };
  t.deepEqual(audit.events, [
    { type: 'rotate_kek', actor: 'uid:7', outcome: 'ok', detail: { ...detail, phase: 'begun', with_master_key: false } },
    { type: 'rotate_kek', actor: 'uid:7', outcome: 'ok', detail: { ...detail, phase: 'complete', keys: 3 } },
  ]);
});

test('a rotation that is blocked tells so, and which key was abandoned and why', async (t) => {
  const audit = remembered();
  const disk = openMemoryStore();
  const { administration, keys } = await administered(t, disk, K1, audit);
  const { keyId } = await keys.create('', 'uid:1');
  await keys.create('', 'uid:1');
  const record = (await disk.readRecord(keyId))!;
  await disk.replaceRecord({ ...record, version: 2, mac: new Uint8Array(32) });
  await administration.rotate(ORDER, undefined, true);
  await administration.rotate({ actor: 'uid:8', abandon: [keyId] }, undefined, true);
  const told = audit.events.map(({ actor, keyId: key, detail }) => [detail?.['phase'], actor, key]);
  t.deepEqual(told, [
    ['begun', 'uid:7', undefined],
    ['blocked', 'uid:7', undefined],
    ['abandoned', 'uid:8', keyId],
    ['complete', 'uid:8', undefined],
  ]);
  t.is(audit.events[2]!.detail?.['reason'], 'its authentication code does not match');
});

test('a rotation that ends while a key is being left behind is followed by no other', async (t) => {
  const audit = remembered();
  const disk = openMemoryStore();
  const { administration, keys } = await administered(t, disk, K1, audit);
  const { keyId } = await keys.create('', 'uid:1');
  for (let n = 0; n < 6; n += 1) await keys.create('', 'uid:1');
  const record = (await disk.readRecord(keyId))!;
  await disk.replaceRecord({ ...record, version: 2, mac: new Uint8Array(32) });
  const { write } = audit;
  audit.write = async (event) => {
    write(event);
    while (event.detail?.['phase'] === 'abandoned' && administration.rotation.status().state === 'running') await delay(5);
  };
  await administration.rotate({ ...ORDER, keysPerSecond: 20 }, undefined, false);
  const status = await administration.rotate({ actor: 'uid:8', abandon: [keyId] }, undefined, true);
  t.like(status, { state: 'idle', kekVersion: '2', total: 6, done: 6 });
});

test('a rotation that fails tells the code of it', async (t) => {
  const audit = remembered();
  const store = storeWith(openMemoryStore(), (name, real) => {
    if (name === 'keep') throw new KmsError('STORE_UNAVAILABLE', 'EIO at link');
    return real();
  });
  const { administration, keys } = await administered(t, store, K1, audit);
  await keys.create('', 'uid:1');
  await administration.rotate(ORDER, undefined, true);
  t.like(audit.events[1], { outcome: 'STORE_UNAVAILABLE', detail: { phase: 'failed' } });
});

test('slots tell of their coming, their confirmation and their going; a rewrap of itself', async (t) => {
  const audit = remembered();
  const store = openMemoryStore();
  const first = await administered(t, store, K1, audit);
  const { keyId } = await first.keys.create('thread', 'uid:1');
  const slot = await first.administration.addSlot({ ...NEW, value: '4'.repeat(64) }, 'master', true, 'uid:7');
  await first.administration.removeSlot(slot.slotId, 'uid:7');
  await first.administration.rewrap(keyId, undefined, 'uid:7');
  await first.administration.rotate(ORDER, NEW, true);
  await first.wipe();
  const second = await administered(t, store, K2, audit);
  await second.administration.confirmSlots('uid:0');
  const told = audit.events.map(({ type, actor, keyId: key, detail }) => [
    type,
    actor,
    key ?? detail?.['act'] ?? detail?.['phase'],
  ]);
  t.deepEqual(told, [
    ['slot', 'uid:7', 'added'],
    ['slot', 'uid:7', 'removed'],
    ['rewrap', 'uid:7', keyId],
    ['rotate_kek', 'uid:7', 'begun'],
    ['rotate_kek', 'uid:7', 'complete'],
    ['slot', 'uid:0', 'confirmed'],
    ['slot', 'uid:0', 'removed'],
  ]);
  t.is(audit.events[0]!.detail?.['slot_id'], slot.slotId);
  t.false(JSON.stringify(audit.events).includes(K2));
});

test('while no line can be written, nothing of it begins', async (t) => {
  const audit: AuditLog = {
    ...remembered(),
    refuseIfFailed() {
      throw new KmsError('AUDIT_UNAVAILABLE');
    },
  };
  const store = openMemoryStore();
  const { administration, keys, opened } = await administered(t, store, K1, audit);
  const { keyId } = await keys.create('', 'uid:1');
  const before = JSON.stringify(await store.readKeyring());
  const calls = [
    () => administration.rotate(ORDER, undefined, true),
    () => administration.rotate(ORDER, NEW, false),
    () => administration.addSlot(NEW, 'master', true, 'uid:7'),
    () => administration.removeSlot(opened.keyring.slots[0]!.slotId, 'uid:7'),
    () => administration.rewrap(keyId, NEW, 'uid:7'),
  ];
  for (const call of calls) await t.throwsAsync(call, { code: 'AUDIT_UNAVAILABLE' }, String(call));
  t.is(JSON.stringify(await store.readKeyring()), before);
});

test('a line that cannot be written after the switch has the rotation stand, and the next call goes on with it', async (t) => {
  let isFailing = false;
  const audit: AuditLog = {
    ...remembered(),
    async write() {
      if (isFailing) throw new KmsError('AUDIT_UNAVAILABLE');
    },
  };
  const { administration, keys } = await administered(t, openMemoryStore(), K1, audit);
  await keys.create('', 'uid:1');
  isFailing = true;
  await t.throwsAsync(administration.rotate(ORDER, undefined, true), { code: 'AUDIT_UNAVAILABLE' });
  t.like(administration.rotation.status(), { state: 'failed', kekVersion: '2' });
  isFailing = false;
  t.like(await administration.rotate(ORDER, undefined, true), { state: 'idle', kekVersion: '2', done: 1 });
});

test('a message from before that does not open after it fails the rotation before the old KEK goes', async (t) => {
  const audit = remembered();
  const store = openMemoryStore();
  const { administration, keys, messages, opened } = await administered(t, store, K1, audit);
  await keys.create('', 'uid:1');
  const { decrypt } = messages;
  messages.decrypt = async () => new Uint8Array(32);
  const status = await administration.rotate(ORDER, undefined, true);
  t.like(status, { state: 'failed', phase: 'verify' });
  t.regex(status.error ?? '', /from before the rotation does not open after it/);
  t.true(opened.keyring.isRotating, 'both KEKs are there');
  messages.decrypt = decrypt;
  t.like(await administration.rotate(ORDER, undefined, true), { state: 'idle', error: null });
});

test('a rotation whose last line cannot be written is over all the same, and says what is wrong', async (t) => {
  const audit: AuditLog = {
    ...remembered(),
    async write({ detail }) {
      if (detail?.['phase'] === 'complete') throw new KmsError('AUDIT_UNAVAILABLE');
    },
  };
  const { administration, keys, opened } = await administered(t, openMemoryStore(), K1, audit);
  await keys.create('', 'uid:1');
  const status = await administration.rotate(ORDER, undefined, true);
  t.like(status, { state: 'idle', phase: null, kekVersion: '2' });
  t.regex(status.error ?? '', /audit log cannot be written/);
  t.false(opened.keyring.isRotating);
});

test('what is refused is told, too', async (t) => {
  const noted: AuditEvent[] = [];
  const audit: AuditLog = { ...remembered(), note: (event) => void noted.push(event) };
  const { administration, opened } = await administered(t, openMemoryStore(), K1, audit);
  const { slotId } = opened.keyring.slots[0]!;
  await t.throwsAsync(administration.removeSlot(slotId, 'uid:7'), { code: 'CONFLICT' });
  await t.throwsAsync(administration.rewrap('k_none', NEW, 'uid:7'), { code: 'KEY_NOT_FOUND' });
  await t.throwsAsync(administration.rotate({ ...ORDER, abandon: ['k_1'] }, undefined, false), { code: 'CONFLICT' });
  t.deepEqual(noted, [
    { type: 'slot', actor: 'uid:7', outcome: 'CONFLICT', detail: { act: 'removed', slot_id: slotId } },
    { type: 'rewrap', actor: 'uid:7', keyId: 'k_none', outcome: 'KEY_NOT_FOUND' },
    { type: 'rotate_kek', actor: 'uid:7', outcome: 'CONFLICT' },
  ]);
});
