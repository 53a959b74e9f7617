import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { connectKms } from '../../dist/client/index.js';
import { KmsError } from '../../dist/errors.js';
import { FIRST_USES } from '../../dist/limits.js';
import type { CreatedKey, Provider } from '../../dist/provider.js';
import { ChildDaemon } from './child.js';
import { faultyProvider } from './faulty-provider.js';
import { embeddedOn, type Ground, keyIdsOn, leftoversOn, newGround, recordFile, removeGround, verifyAll } from './ground.js';

const MESSAGE = Buffer.from('kept through a fault of the disk');
/** Which of the two finds the disk full first is chance. */
const REFUSED_WHEN_FULL = {
  instanceOf: KmsError,
  message: /^the (key store is unavailable|audit log cannot be written): /,
};
const unavailable = { instanceOf: KmsError, code: 'STORE_UNAVAILABLE' };

function ground(t: ExecutionContext): Ground {
  const made = newGround();
  t.teardown(() => removeGround(made));
  return made;
}

/** The calls that one create makes, each by its place. */
async function stepsOfCreate(t: ExecutionContext): Promise<Array<{ op: string; index: number }>> {
  const faulty = await faultyProvider(t, ground(t));
  await faulty.kms.createDek();
  faulty.calls = [];
  await faulty.kms.createDek();
  return faulty.calls.map(({ op }, index) => ({ op, index }));
}

test('EIO at any step of a create hands nothing out, stops writes until a restart, and leaves reads alone', async (t) => {
  const steps = await stepsOfCreate(t);
  t.true(steps.length >= 5, JSON.stringify(steps));
  for (const { op, index } of steps) {
    const place = ground(t);
    const faulty = await faultyProvider(t, place);
    const { kms } = faulty;
    const { keyId } = await kms.createDekForThread('thread/1');
    const { ciphertext } = await kms.encryptWithDek(keyId, MESSAGE);
    const cached = kms.cachedKeys;
    faulty.calls = [];
    faulty.fails = (_, at) => (at === index ? 'EIO' : undefined);
    await t.throwsAsync(kms.createDekForThread('thread/2'), unavailable, `${op} (${index})`);
    faulty.fails = () => undefined;
    t.is(kms.cachedKeys, cached, 'the key did not reach the vault');
    const { status, storeFault } = await kms.health();
    t.is(status, 'degraded');
    t.regex(storeFault ?? '', new RegExp(`EIO at ${op}.*read-only`));
    await t.throwsAsync(kms.createDek(), unavailable);
    await t.throwsAsync(kms.disableKey(keyId), unavailable);
    t.deepEqual(Buffer.from(await kms.decryptWithDek(keyId, ciphertext)), MESSAGE);
    await kms.encryptWithDek(keyId, MESSAGE);
    await kms.close();

    const again = await embeddedOn(place);
    t.is((await again.health()).storeFault, null);
    t.deepEqual(leftoversOn(place), []);
    t.true((await verifyAll(again)) <= 2, 'at most a whole record that nobody was told of');
    t.deepEqual(Buffer.from(await again.decryptWithDek(keyId, ciphertext)), MESSAGE);
    await again.createDek();
    await again.close();
  }
});

test('a full disk at any step of a create hands nothing out, leaves no file, and ends when there is space', async (t) => {
  const place = ground(t);
  const faulty = await faultyProvider(t, place);
  const { kms } = faulty;
  const { keyId } = await kms.createDekForThread('thread/1');
  for (const op of ['open', 'write', 'link']) {
    const before = keyIdsOn(place);
    const cached = kms.cachedKeys;
    faulty.fails = (call) => (call.op === op ? 'ENOSPC' : undefined);
    const creates = await Promise.allSettled(Array.from({ length: 8 }, () => kms.createDek()));
    for (const create of creates) {
      t.is(create.status, 'rejected');
      if (create.status === 'rejected') t.is((create.reason as KmsError).code, 'STORE_UNAVAILABLE');
    }
    t.deepEqual(keyIdsOn(place), before);
    t.deepEqual(leftoversOn(place), []);
    t.is(kms.cachedKeys, cached);
    const { status, storeFault } = await kms.health();
    t.is(status, 'degraded');
    t.regex(storeFault ?? '', /no space left/);
    await kms.encryptWithDek(keyId, MESSAGE);
    faulty.fails = () => undefined;
    const after = await kms.createDek();
    t.is((await kms.health()).storeFault, null, 'the write that went through ended it');
    await kms.encryptWithDek(after.keyId, MESSAGE);
  }
});

test('on a full disk a key serves what is reserved and not one use more', async (t) => {
  const place = ground(t);
  const faulty = await faultyProvider(t, place);
  const { kms } = faulty;
  const { keyId } = await kms.createDek();
  faulty.fails = ({ op }) => (op === 'write' || op === 'writeSync' ? 'ENOSPC' : undefined);
  let done = 0;
  const refused = await t.throwsAsync(async () => {
    for (; done < 2 * FIRST_USES; done += 1) await kms.encryptWithDek(keyId, MESSAGE);
  }, unavailable);
  t.regex(refused?.message ?? '', /ENOSPC/);
  t.is(done, FIRST_USES);
  t.throws(() => kms.encryptSync(keyId, MESSAGE), unavailable);
  t.is(recordFile(place, keyId).uses_reserved, FIRST_USES);
  faulty.fails = () => undefined;
  kms.encryptSync(keyId, MESSAGE);
  t.true(recordFile(place, keyId).uses_reserved > FIRST_USES);
});

/** A file system of its own of that size, undefined if this may not be had here. */
function mounted(t: ExecutionContext, path: string, size: string): string | undefined {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return undefined;
  mkdirSync(path, { mode: 0o700 });
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=0700`, 'tmpfs', path], { stdio: 'ignore' });
  } catch {
    return undefined;
  }
  t.teardown(() => execFileSync('umount', ['-l', path]));
  return path;
}

/** The store takes a create as soon as there is room; the audit log looks for it by itself, a moment later. */
async function createdWithRoom(kms: Provider): Promise<CreatedKey> {
  for (;;) {
    try {
      return await kms.createDek();
    } catch (error) {
      if ((error as KmsError).code !== 'AUDIT_UNAVAILABLE') throw error;
      await delay(20);
    }
  }
}

test('a daemon whose disk fills up refuses creates, serves its keys, and creates again when space is freed', async (t) => {
  const made = newGround();
  t.teardown(() => removeGround(made));
  const disk = mounted(t, join(made.directory, 'disk'), '1600k');
  if (disk === undefined) {
    t.log('SKIPPED: needs root and the right to mount a tmpfs');
    t.pass();
    return;
  }
  const place = { ...made, dataDir: join(disk, 'data') };
  // The audit log fills up, too, some tenths of a second later, and would have every message refused.
  const daemon = new ChildDaemon(place, [], [], ['--audit-continue-on-failure']);
  t.teardown(() => daemon.kill());
  await daemon.ready;
  const kms = await connectKms(place.socket);
  t.teardown(() => kms.close());
  const ballast = join(disk, 'ballast');
  writeFileSync(ballast, Buffer.alloc(128 * 1024));

  const sealed = new Map<string, Uint8Array>();
  const refusal = await t.throwsAsync(async () => {
    for (let made = 0; made < 1_000; made += 1) {
      const { keyId } = await kms.createDek();
      sealed.set(keyId, (await kms.encryptWithDek(keyId, MESSAGE)).ciphertext);
    }
  }, REFUSED_WHEN_FULL);
  t.log(`${sealed.size} keys, then: ${refusal?.message}`);
  t.true(sealed.size > 8);
  t.regex(refusal?.message ?? '', /ENOSPC/);
  const untold = keyIdsOn(place).filter((keyId) => !sealed.has(keyId));
  // A record whose line in the audit log had no room is whole, and nobody was told of it.
  t.true(untold.length <= (refusal?.code === 'AUDIT_UNAVAILABLE' ? 1 : 0), 'what was refused left nothing');
  t.is(keyIdsOn(place).length, sealed.size + untold.length);
  t.deepEqual(leftoversOn(place), []);
  const full = await kms.health();
  t.is(full.status, 'degraded');
  t.regex(full.storeFault ?? full.auditFault ?? '', /no space left/);
  for (const [keyId, ciphertext] of sealed) {
    t.deepEqual(Buffer.from(await kms.decryptWithDek(keyId, ciphertext)), MESSAGE);
    await kms.encryptWithDek(keyId, MESSAGE);
  }

  rmSync(ballast);
  const { keyId } = await createdWithRoom(kms);
  sealed.set(keyId, (await kms.encryptWithDek(keyId, MESSAGE)).ciphertext);
  t.deepEqual(await kms.health().then(({ status, storeFault }) => [status, storeFault]), ['ok', null]);
  await kms.close();
  await daemon.stop();
  const again = await embeddedOn(place);
  t.is(await verifyAll(again), sealed.size + untold.length);
  await again.close();
});
