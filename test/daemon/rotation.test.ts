import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { binding } from '../../dist/native.js';
import { OP } from '../../dist/wire/frames.js';
import { askHttp } from './http-peer.js';
import type { Peer } from './peer.js';
import { type Running, running } from './running.js';
import { scrape } from './scrape.js';

const HEX = 'c0ffee0123456789'.repeat(4);

type Map = Record<string, unknown>;

async function only(peer: Peer, op: number, ...args: unknown[]): Promise<Map> {
  const { error, results } = await peer.ask(op, ...args);
  if (error !== undefined) throw error;
  return results[0] as Map;
}

/** More keys than a rotation of one a second is through with before it is looked at. */
async function rotatingSlowly(t: ExecutionContext): Promise<Running & { peer: Peer }> {
  const at = await running(t, {});
  const peer = await at.connect();
  for (let n = 0; n < 20; n++) await peer.ask(OP.createDek, null);
  await peer.ask(OP.rotateKek, { keys_per_second: 1 });
  while (Number((await only(peer, OP.rotationStatus))['total']) === 0) await delay(5);
  return { ...at, peer };
}

test('the status tells of the rotation and of keys that wait for a start, and of neither while sealed', async (t) => {
  const { daemon, connect } = await running(t, {});
  const peer = await connect();
  const idle = { state: 'idle', phase: null, total: 0, done: 0, due: null };
  t.like(await only(peer, OP.status), { rotation: idle, pending_slots: 0 });
  await peer.ask(OP.slots, { action: 'add', kind: 'recovery', new_kek_hex: 'cd'.repeat(32) });
  t.like(await only(peer, OP.status), { pending_slots: 0 }, 'a recovery key waits for no start');
  t.is((await scrape(t, daemon.socket)).get('slots{state="pending"}'), 0, 'and raises no alarm');
  await peer.ask(OP.slots, { action: 'add', new_kek_hex: HEX });
  t.like(await only(peer, OP.status), { rotation: idle, pending_slots: 1 });
  await peer.ask(OP.seal);
  t.like(await only(peer, OP.status), { status: 'sealed', rotation: null, pending_slots: null });
  await peer.ask(OP.unseal);
  t.like(await only(peer, OP.status), { rotation: idle, pending_slots: 1 });
});

test('the status of a rotation under way is the same everywhere, and a seal in it loses nothing', async (t) => {
  const { daemon, peer } = await rotatingSlowly(t);
  t.like(await only(peer, OP.status), { rotation: { state: 'running', phase: 'rewrap', total: 20 } });
  t.like((await askHttp(daemon.socket, { path: '/rotation_status' })).json, { state: 'running', total: 20, kek_version: '2' });
  t.like((await askHttp(daemon.socket, { path: '/v1/status' })).json, { rotation: { state: 'running', total: 20 } });
  await peer.ask(OP.seal);
  t.is(await peer.outcome(OP.rotationStatus), 'SEALED');
  await peer.ask(OP.unseal);
  while ((await only(peer, OP.rotationStatus))['state'] === 'running') await delay(10);
  t.like(await only(peer, OP.rotationStatus), { state: 'idle', kek_version: '2', total: 20, done: 20 });
});

test('the metrics tell of the rotation, of the KEK and of the slots', async (t) => {
  const { daemon, connect } = await running(t, {});
  const peer = await connect();
  for (let n = 0; n < 3; n++) await peer.ask(OP.createDek, null);
  const states = ['idle', 'running', 'blocked', 'failed'].map((state) => `rotation_state{state="${state}"}`);
  const slots = ['active', 'pending', 'successor'].map((state) => `slots{state="${state}"}`);
  const before = await scrape(t, daemon.socket);
  const values = (at: typeof before, names: string[]) => names.map((name) => at.get(name));
  t.deepEqual(values(before, states), [1, 0, 0, 0]);
  t.deepEqual(values(before, ['rotation_keys_total', 'rotation_keys_done', 'rotation_due', ...slots]), [0, 0, 0, 1, 0, 0]);
  t.true(before.get('kek_age_seconds')! >= 0 && before.get('kek_age_seconds')! < 3_600);
  t.is(before.get('kek_wraps'), 64, 'the first block of wraps is reserved');
  await only(peer, OP.rotateKek, { wait: true, new_kek_hex: HEX });
  await only(peer, OP.slots, { action: 'add', new_kek_hex: `${HEX.slice(1)}0` });
  const after = await scrape(t, daemon.socket);
  t.deepEqual(values(after, ['rotation_keys_total', 'rotation_keys_done', ...slots]), [3, 3, 1, 1, 1]);
  await peer.ask(OP.seal);
  const sealed = await scrape(t, daemon.socket);
  const told = [...sealed.values.keys()].filter((name) => /^progressdb_kms_(rotation_|kek_|slots)/.test(name));
  t.deepEqual(told, []);
});

test('the metrics of a rotation under way say so', async (t) => {
  const { daemon } = await rotatingSlowly(t);
  const now = await scrape(t, daemon.socket);
  t.is(now.get('rotation_state{state="running"}'), 1);
  t.is(now.get('rotation_keys_total'), 20);
  t.true(now.get('rotation_keys_done')! < 20);
});

test('the log has who rotated, added and removed, and never a key', async (t) => {
  const { daemon, connect, events, fields, directory } = await running(t, {});
  const peer = await connect();
  const key = (await peer.ask(OP.createDek, null)).results[0];
  const file = join(directory, 'new.key');
  binding.writeKeyFile(file);
  await only(peer, OP.rotateKek, { dry_run: true });
  const { rotation_id } = await only(peer, OP.rotateKek, { wait: true, new_master_key_file: file });
  await peer.ask(OP.rewrap, key, HEX);
  const { slot_id } = ((await peer.ask(OP.slots, { action: 'add', new_kek_hex: HEX })).results[0] as Map[])[0]!;
  await peer.ask(OP.slots, { action: 'remove', slot_id });
  t.is(await peer.outcome(OP.slots, { action: 'add', new_kek_hex: HEX.slice(2) }), 'INVALID_ARGUMENT');
  const actor = `uid:${process.geteuid?.()}`;
  const said = events.flatMap(({ event }, at) => (/rotate|slot/.test(event) ? [{ event, ...fields[at] }] : []));
  t.deepEqual(said, [
    { event: 'rotate_kek', actor, rotation_id, new_master_key: true, abandoned: undefined },
    { event: 'slot_added', actor, key_id: key },
    { event: 'slot_added', actor, slot_id },
    { event: 'slot_removed', actor, slot_id },
  ]);
  t.false(JSON.stringify([events, fields]).toLowerCase().includes(HEX.slice(2, 40)));
  t.is(await (await connect()).outcome(OP.decrypt, key, Buffer.alloc(28), null), 'AUTHENTICATION_FAILED');
  t.is(daemon.kms.sealed, false);
});

test('a file that is named for a new key and is none is refused by its name, and what it holds is not told', async (t) => {
  const { daemon, directory } = await running(t, {});
  for (const path of [join(directory, 'absent'), directory, '/etc/passwd']) {
    const answer = await askHttp(daemon.socket, { path: '/v1/slots', body: { new_master_key_file: path } });
    t.true(answer.status >= 400 && answer.status < 500, `${path}: ${answer.text}`);
    t.notRegex(answer.text, /root:/);
  }
  const slots = (await askHttp(daemon.socket, { path: '/v1/slots' })).json!['slots'] as unknown[];
  t.is(slots.length, 1);
});

test('what the configuration says of rotations holds', async (t) => {
  const { daemon, connect } = await running(t, { dev: true }, { rotationKeysPerSecond: 1 });
  const peer = await connect();
  for (let n = 0; n < 20; n++) await peer.ask(OP.createDek, null);
  await only(peer, OP.rotateKek, {});
  // In memory, and not held back, it would have been over at once.
  await delay(300);
  t.is((await daemon.kms.rotationStatus()).state, 'running');
});
