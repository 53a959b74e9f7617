import { copyFileSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import type { ChainedLog } from '../../dist/audit/chained-log.js';
import { refused } from '../provider/refused.js';
import { interceptedFileSystem, systemError } from '../store/intercepted.js';
import { auditedKms, linesOf, newGroundOf as newGround, typesOf } from './audited.js';

const LOG = 'kms-audit.log';
const START = ['start', 'signing_key', 'checkpoint'];

test('a store that is opened and closed has written its start, the next key, a checkpoint, and its stop', async (t) => {
  const ground = newGround(t);
  const kms = await auditedKms(t, ground);
  t.deepEqual(typesOf(ground), START);
  await kms.close();
  t.deepEqual(typesOf(ground), [...START, 'stop', 'checkpoint']);
  const again = await auditedKms(t, ground);
  const lines = linesOf(ground);
  t.deepEqual(
    lines.map(({ seq }) => seq),
    [1, 2, 3, 4, 5, 6, 7, 8],
  );
  t.is(lines[5]?.['signing_key'], lines[1]?.['public'], 'a start names the key that was announced');
  t.not(lines[6]?.['public'], lines[1]?.['public']);
  t.not(lines[5]?.['boot'], lines[0]?.['boot']);
  await again.close();
});

test('whoever changes keys is told when the line about it is durable', async (t) => {
  const ground = newGround(t);
  const kms = await auditedKms(t, ground);
  const created = await kms.createDekForThread('thread-1', { actor: 'uid:42' });
  t.like(linesOf(ground).at(-1), {
    type: 'create_dek',
    actor: 'uid:42',
    key_id: created.keyId,
    thread_id: 'thread-1',
    outcome: 'ok',
  });
  await kms.setKeyState(created.keyId, 'disabled', { actor: 'token:7' });
  t.like(linesOf(ground).at(-1), {
    type: 'key_state',
    actor: 'token:7',
    state: 'disabled',
    thread_id: 'thread-1',
    outcome: 'ok',
  });
  await kms.getWrapped(created.keyId, { actor: 'uid:1' });
  t.like(linesOf(ground).at(-1), { type: 'get_wrapped', actor: 'uid:1', key_id: created.keyId, outcome: 'ok' });
  t.false('generation' in (linesOf(ground).at(-1) as object));
  await refused(t, kms.getWrapped('k_00', { actor: 'uid:1' }), 'KEY_NOT_FOUND');
  await kms.close();
  t.like(
    linesOf(ground).find(({ outcome }) => outcome === 'KEY_NOT_FOUND'),
    { type: 'get_wrapped', key_id: 'k_00' },
  );
});

test('no line says anything of content or keys', async (t) => {
  const ground = newGround(t);
  const kms = await auditedKms(t, ground, { audit: { dataOperations: 'each' } });
  const { keyId, wrapped } = await kms.createDekForThread('thread-1');
  const { ciphertext } = await kms.encryptWithDek(
    keyId,
    Buffer.from('a plaintext to look for'),
    Buffer.from('an aad to look for'),
  );
  await kms.decryptWithDek(keyId, ciphertext, Buffer.from('an aad to look for'));
  await kms.close();
  const text = readFileSync(join(ground.dataDir, LOG), 'latin1');
  t.true(text.includes('"type":"decrypt"'), 'the look would find what is there');
  for (const bytes of [wrapped, ciphertext, Buffer.from('a plaintext to look for'), Buffer.from('an aad to look for')]) {
    const buffer = Buffer.from(bytes);
    for (const form of [buffer.toString('base64'), buffer.toString('hex'), buffer.toString('latin1')])
      t.false(text.includes(form));
  }
});

test('data operations are counted in groups, and what is under way at the end is written', async (t) => {
  const ground = newGround(t);
  const kms = await auditedKms(t, ground, { audit: { dataOperations: 'grouped' } });
  const { keyId } = await kms.createDekForThread('thread-1');
  for (let i = 0; i < 100; i += 1) kms.encryptSync(keyId, Buffer.alloc(10));
  t.throws(() => kms.decryptSync(keyId, Buffer.alloc(40)), { code: 'AUTHENTICATION_FAILED' });
  await kms.close();
  const data = linesOf(ground).filter(({ type }) => type === 'encrypt' || type === 'decrypt');
  const sum = (type: string, outcome: string, member: string) =>
    data.filter((line) => line.type === type && line['outcome'] === outcome).reduce((all, line) => all + Number(line[member]), 0);
  t.is(sum('encrypt', 'ok', 'count'), 100);
  t.is(sum('encrypt', 'ok', 'bytes'), 1_000);
  t.is(sum('decrypt', 'AUTHENTICATION_FAILED', 'count'), 1);
  t.true(data.every((line) => line['key_id'] === keyId && line.actor === 'uid:0'));
});

// Alone, as all that seal: there are two seconds for the last lines, which others who write to the disk would take from them.
test.serial('a seal writes its line before it is answered, and an unseal begins another epoch', async (t) => {
  const ground = newGround(t);
  const kms = await auditedKms(t, ground);
  await kms.seal({ actor: 'uid:9' });
  t.deepEqual(typesOf(ground), [...START, 'seal', 'checkpoint']);
  t.is(linesOf(ground)[3]?.actor, 'uid:9');
  await kms.unseal({ actor: 'uid:8' });
  t.deepEqual(typesOf(ground).slice(5), [...START, 'unseal']);
  t.is(linesOf(ground)[8]?.actor, 'uid:8');
});

test('a start is refused where no line can be written', async (t) => {
  const ground = newGround(t);
  const fileSystem = interceptedFileSystem(({ op, of }, proceed) => {
    if (of === LOG && op === 'fsync') throw systemError('EIO', op);
    return proceed();
  });
  await refused(t, auditedKms(t, ground, { fileSystem }), 'AUDIT_UNAVAILABLE', /EIO/);
});

for (const continueOnFailure of [false, true]) {
  const what = continueOnFailure ? 'go on where the operator wants that' : 'are refused, too';
  test(`after a write error administrative operations are refused at once, and data operations ${what}`, async (t) => {
    const ground = newGround(t);
    let fails = false;
    const fileSystem = interceptedFileSystem(({ op, of }, proceed) => {
      if (fails && of === LOG && op === 'write') throw systemError('EIO', op);
      return proceed();
    });
    const kms = await auditedKms(t, ground, { fileSystem, audit: { dataOperations: 'grouped', continueOnFailure } });
    const { keyId } = await kms.createDekForThread('thread-1');
    fails = true;
    await refused(t, kms.createDekForThread('thread-2'), 'AUDIT_UNAVAILABLE', /EIO/);
    await refused(t, kms.disableKey(keyId), 'AUDIT_UNAVAILABLE', /EIO/);
    t.is((await kms.describeKey(keyId)).state, 'active', 'it was not begun');
    t.like(await kms.health(), { status: 'degraded' });
    if (continueOnFailure) t.notThrows(() => kms.encryptSync(keyId, Buffer.from('x')));
    else t.throws(() => kms.encryptSync(keyId, Buffer.from('x')), { code: 'AUDIT_UNAVAILABLE' });
  });
}

test('on a full disk operations resume once there is space, and no line is missing', async (t) => {
  const ground = newGround(t);
  let isFull = false;
  const fileSystem = interceptedFileSystem(({ op, of }, proceed) => {
    if (isFull && (of === LOG || of === 'kms-audit.reserve') && op === 'write') throw systemError('ENOSPC', op);
    return proceed();
  });
  const kms = await auditedKms(t, ground, { fileSystem });
  isFull = true;
  await refused(t, kms.createDekForThread('thread-1'), 'AUDIT_UNAVAILABLE', /no space/);
  await refused(t, kms.createDekForThread('thread-2'), 'AUDIT_UNAVAILABLE', /no space/);
  isFull = false;
  for (;;) {
    if ((await kms.health()).auditFault === null) break;
    await delay(50);
  }
  const { keyId } = await kms.createDekForThread('thread-3');
  await kms.close();
  const lines = linesOf(ground);
  t.deepEqual(
    lines.map(({ seq }) => seq),
    lines.map((_, index) => index + 1),
  );
  t.true(lines.some((line) => line['key_id'] === keyId));
  t.true(
    lines.some((line) => line['thread_id'] === 'thread-1'),
    'what was done before it was refused is written',
  );
});

test('an older keyring than the log knows is refused, unless that is meant', async (t) => {
  const ground = newGround(t);
  const keyring = join(ground.dataDir, 'keyring.json');
  await (await auditedKms(t, ground)).close();
  copyFileSync(keyring, `${keyring}.old`);
  await (await auditedKms(t, ground)).close();
  copyFileSync(`${keyring}.old`, keyring);
  await refused(t, auditedKms(t, ground), 'STORE_UNAVAILABLE', /older than the audit log/);
  const kms = await auditedKms(t, ground, { audit: { acceptRollback: true } });
  t.like(linesOf(ground).at(-1), { type: 'checkpoint' });
  await kms.close();
});

test('a log that is gone, or that is another store’s, is refused, unless that is meant', async (t) => {
  const [ground, other] = [newGround(t), newGround(t)];
  await (await auditedKms(t, ground)).close();
  await (await auditedKms(t, other)).close();
  const log = join(ground.dataDir, LOG);
  const own = readFileSync(log);
  rmSync(log);
  await refused(t, auditedKms(t, ground), 'STORE_UNAVAILABLE', /audit log is gone/);
  writeFileSync(log, '', { mode: 0o600 });
  await refused(t, auditedKms(t, ground), 'STORE_UNAVAILABLE', /audit log is gone/);
  copyFileSync(join(other.dataDir, LOG), log);
  await refused(t, auditedKms(t, ground), 'STORE_UNAVAILABLE', /does not hold the key that signs/);
  writeFileSync(log, own);
  await (await auditedKms(t, ground)).close();
  rmSync(log);
  await (await auditedKms(t, ground, { audit: { acceptRollback: true } })).close();
  t.is(linesOf(ground)[0]?.seq, 1);
});

test('a torn end is recorded with its hash by the next start', async (t) => {
  const ground = newGround(t);
  await (await auditedKms(t, ground)).close();
  const log = join(ground.dataDir, LOG);
  writeFileSync(log, '{"event":{"se', { flag: 'a' });
  const kms = await auditedKms(t, ground);
  t.deepEqual(typesOf(ground).slice(5), ['start', 'recovered', 'signing_key', 'checkpoint']);
  const aside = readdirSync(ground.dataDir).filter((name) => name.includes('torn'));
  t.like(linesOf(ground)[6], { bytes: 13, file: aside[0] });
  await kms.close();
});

test('a checkpoint stands after every thousand lines', async (t) => {
  const ground = newGround(t);
  const kms = await auditedKms(t, ground, { audit: { dataOperations: 'each' } });
  const { keyId } = await kms.createDekForThread('thread-1');
  for (let i = 0; i < 2_500; i += 1) kms.encryptSync(keyId, Buffer.alloc(1));
  await kms.close();
  const lines = linesOf(ground);
  t.is(lines.filter(({ type }) => type === 'encrypt').length, 2_500);
  const checkpoints = lines.filter(({ type }) => type === 'checkpoint');
  t.true(checkpoints.length >= 3);
  t.true(checkpoints.every((line) => Number(line['lines']) < 2_000));
});

test('lines that are made together have a checkpoint after every thousand of them, too', async (t) => {
  const ground = newGround(t);
  let log: ChainedLog | undefined;
  const kms = await auditedKms(t, ground, {
    onLog: (opened) => {
      log = opened;
    },
  });
  const event = { type: 'create_dek', actor: 'uid:1', outcome: 'ok' } as const;
  const events = Array.from({ length: 2_500 }, (_, index) => ({ ...event, keyId: `k_${index}` }));
  await log?.writeAll(events.slice(0, 700));
  await log?.writeAll(events.slice(700));
  const lines = linesOf(ground);
  const checkpoints = lines.filter(({ type }) => type === 'checkpoint').slice(1);
  t.deepEqual(
    checkpoints.map((line) => line['lines']),
    [1_000, 1_000],
  );
  t.deepEqual(
    lines.filter(({ type }) => type === 'create_dek').map((line) => line['key_id']),
    events.map(({ keyId }) => keyId),
  );
  await kms.close();
});

/** Holds every write to the log back from `hold` until `release`. */
function holdable() {
  let held: Promise<void> | undefined;
  let release = () => {};
  const fileSystem = interceptedFileSystem(async ({ op, of }, proceed) => {
    if (of === LOG && op === 'write') await held;
    return proceed();
  });
  const hold = () => {
    // As a write under way does, it keeps the process alive.
    const underWay = setInterval(() => {}, 60_000);
    held = new Promise((resolve) => {
      release = () => {
        clearInterval(underWay);
        resolve();
      };
    });
  };
  return { fileSystem, hold, release: () => release() };
}

test.serial('a store is not unsealed while the last lines of its log are under way, nor given to another process', async (t) => {
  const ground = newGround(t);
  const disk = holdable();
  let isReleased = false;
  const kms = await auditedKms(t, ground, { fileSystem: disk.fileSystem, onRelease: () => (isReleased = true) });
  disk.hold();
  await kms.seal();
  await refused(t, kms.unseal(), 'AUDIT_UNAVAILABLE', /does not take its last lines/);
  await refused(t, kms.dataWritten(), 'AUDIT_UNAVAILABLE', /does not take its last lines/);
  await kms.close();
  t.false(isReleased);
  disk.release();
  while (!isReleased) await delay(10);
  const again = await auditedKms(t, ground);
  await again.close();
  t.deepEqual(typesOf(ground), [...START, 'seal', 'checkpoint', ...START, 'stop', 'checkpoint']);
});

test.serial('before it is known that a seal was written no answer to what came before it may be sent', async (t) => {
  const ground = newGround(t);
  const disk = holdable();
  const kms = await auditedKms(t, ground, { fileSystem: disk.fileSystem, audit: { dataOperations: 'each' } });
  const { keyId } = await kms.createDek();
  disk.hold();
  kms.encryptSync(keyId, Buffer.from('x'));
  const sealed = kms.seal();
  let isWritten = false;
  const written = kms.dataWritten().then(() => {
    isWritten = true;
  });
  await delay(20);
  t.false(isWritten);
  disk.release();
  await Promise.all([sealed, written]);
  t.true(typesOf(ground).includes('encrypt'));
});

test('on a disk that hangs lines do not pile up: data operations find no room, administrative ones are refused', async (t) => {
  const ground = newGround(t);
  const disk = holdable();
  const kms = await auditedKms(t, ground, { fileSystem: disk.fileSystem, audit: { dataOperations: 'each' } });
  const { keyId } = await kms.createDek();
  disk.hold();
  const out = Buffer.alloc(64);
  let done = 0;
  const error = t.throws(() => {
    for (; done < 1_000_000; done += 1) kms.encryptInto(keyId, Buffer.from('x'), undefined, out);
  });
  t.is((error as { code?: string }).code, 'BUSY');
  const isFull = () => kms.audit?.state().fault !== null;
  t.true(isFull());
  await refused(t, kms.getWrapped('k_00'), 'AUDIT_UNAVAILABLE', /does not take its lines/);
  t.like(await kms.health(), { status: 'degraded' });
  disk.release();
  while (isFull()) await delay(10);
  await kms.createDek();
  await kms.close();
  t.is(linesOf(ground).filter(({ type }) => type === 'encrypt').length, done);
});
