import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecutionContext, TestFn } from 'ava';
import { binding } from '../../dist/native.js';
import type { RotationStatus } from '../../dist/provider.js';
import { make, PLAIN, same, UNKNOWN_KEY } from './methods.js';
import { refused } from './refused.js';
import { type Open, type Subject, scratch } from './subjects.js';

const HEX = 'c0ffee00'.repeat(8);
const DAY_MS = 86_400_000;

type Rotating = Subject['provider'];

function newKeyFile(t: ExecutionContext): string {
  const file = join(scratch(t), 'new.key');
  binding.writeKeyFile(file);
  return file;
}

async function keyVersions(provider: Rotating): Promise<string[]> {
  return (await provider.listKeys()).keys.map(({ kekVersion }) => kekVersion);
}

/** Keys that a rotation of one a second cannot be through with before it is asked something else, on a machine that stalls too. */
const SLOW = 120;

async function rotateSlowly(provider: Rotating): Promise<RotationStatus> {
  await Promise.all(Array.from({ length: SLOW }, (_, i) => provider.createDekForThread(`t${i}`)));
  return provider.rotateKek({ keysPerSecond: 1 });
}

export function rotationContract(test: TestFn, name: string, open: Open): void {
  test(`${name}: a rotation moves every key to a new KEK, and what was encrypted before is decrypted afterwards`, async (t) => {
    const { provider } = await open(t);
    const made = await make(provider);
    const disabled = await make(provider);
    await provider.disableKey(disabled.keyId);
    const before = await provider.describeKey(made.keyId);
    const wrapped = await provider.getWrapped(made.keyId);
    const status = await provider.rotateKek({ wait: true });
    t.like(status, { state: 'idle', phase: null, kekVersion: '2', total: 3, done: 3, blockedBy: [], error: null, due: null });
    t.regex(status.rotationId!, /^r2-[0-9a-f]{16}$/);
    t.true(Date.parse(status.startedAt!) <= Date.parse(status.finishedAt!));
    const after = await provider.describeKey(made.keyId);
    t.like(after, { ...before, version: before.version + 1, kekVersion: '2', kekId: status.kekId, updatedAt: after.updatedAt });
    t.not(after.kekId, before.kekId);
    t.false(same(await provider.getWrapped(made.keyId), wrapped));
    t.deepEqual(await keyVersions(provider), ['2', '2', '2']);
    t.true(same(await provider.decryptWithDek(made.keyId, made.ciphertext), PLAIN));
    t.true(same(await provider.decrypt(made.sealed), PLAIN));
    await provider.enableKey(disabled.keyId);
    t.true(same(await provider.decryptWithDek(disabled.keyId, disabled.ciphertext), PLAIN));
    t.is((await provider.encryptWithDek(made.keyId, PLAIN)).keyVersion, '2');
    t.is((await provider.createDekForThread('later')).kekVersion, '2');
    t.deepEqual(await provider.rotationStatus(), status, 'of the last one, once it is over');
  });

  test(`${name}: rotations follow one another, and each makes the next version`, async (t) => {
    const { provider } = await open(t);
    const made = await make(provider);
    const ids = new Set<string>();
    for (const kekVersion of ['2', '3', '4']) {
      const status = await provider.rotateKek({ wait: true });
      t.is(status.kekVersion, kekVersion);
      ids.add(status.kekId);
      t.true(same(await provider.decryptWithDek(made.keyId, made.ciphertext), PLAIN));
    }
    t.is(ids.size, 3);
  });

  test(`${name}: keys are used and made while a rotation runs`, async (t) => {
    const { provider } = await open(t);
    const all = await Promise.all(Array.from({ length: 40 }, () => make(provider)));
    const rotation = provider.rotateKek({ wait: true });
    const during = all.map(async ({ keyId, ciphertext }) => {
      const again = await provider.encryptWithDek(keyId, PLAIN);
      const opened = await provider.decryptMany(keyId, [ciphertext, again.ciphertext]);
      return opened.every((plain) => plain instanceof Uint8Array && same(plain, PLAIN));
    });
    const fresh = await Promise.all(all.map((_, i) => make(provider).then((made) => ({ ...made, i }))));
    t.true((await Promise.all(during)).every((right) => right));
    t.is((await rotation).state, 'idle');
    t.deepEqual([...new Set(await keyVersions(provider))], ['2']);
    for (const { keyId, ciphertext } of fresh) t.true(same(await provider.decryptWithDek(keyId, ciphertext), PLAIN));
  });

  test(`${name}: a rotation answers once the new KEK is in use, and a second one is a conflict`, async (t) => {
    const { provider } = await open(t);
    const begun = await rotateSlowly(provider);
    t.like(begun, { state: 'running', kekVersion: '2', finishedAt: null });
    t.is((await provider.createDek()).kekVersion, '2');
    for (const options of [{}, { wait: true }, { newKekHex: HEX }, { keysPerSecond: 0 }]) {
      await refused(t, provider.rotateKek(options), 'CONFLICT', /rotation/, JSON.stringify(options));
    }
    let later = begun;
    for (; later.phase !== 'rewrap' || later.total === 0; later = await provider.rotationStatus()) await delay(5);
    t.like(later, { state: 'running', rotationId: begun.rotationId, startedAt: begun.startedAt });
    t.true(later.total >= SLOW && later.done < later.total, `${later.done} of ${later.total}`);
  });

  test(`${name}: before any rotation the status says so`, async (t) => {
    const { provider } = await open(t);
    const { kekId } = await provider.createDek();
    t.deepEqual(await provider.rotationStatus(), {
      state: 'idle',
      rotationId: null,
      phase: null,
      kekId,
      kekVersion: '1',
      total: 0,
      done: 0,
      keysPerSecond: 0,
      secondsLeft: null,
      startedAt: null,
      finishedAt: null,
      blockedBy: [],
      error: null,
      due: null,
    });
  });

  test(`${name}: a dry run counts the keys and changes nothing`, async (t) => {
    const { provider } = await open(t);
    const made = await make(provider);
    const before = [await provider.listKeys(), await provider.slots(), await provider.rotationStatus()];
    const dry = await provider.rotateKek({ dryRun: true });
    t.like(dry, { kekVersion: '1', total: 2, blockedBy: [] });
    t.deepEqual([await provider.listKeys(), await provider.slots(), await provider.rotationStatus()], before);
    t.is((await provider.rewrapDek(made.keyId)).kekVersion, '1');
  });

  test(`${name}: one key alone is moved to the active KEK, and answered as it is when it is there`, async (t) => {
    const { provider } = await open(t);
    const made = await make(provider);
    // Of a rotation that has only begun the most are left.
    await rotateSlowly(provider);
    const key = await provider.rewrapDek(made.keyId);
    t.like(key, { keyId: made.keyId, kekVersion: '2' });
    t.is(key.wrapped.length, 60);
    t.true(same(await provider.getWrapped(made.keyId), key.wrapped));
    t.is((await provider.describeKey(made.keyId)).kekVersion, '2');
    t.true(same((await provider.rewrapDek(made.keyId)).wrapped, key.wrapped), 'once more');
    t.true(same(await provider.decryptWithDek(made.keyId, made.ciphertext), PLAIN));
    await refused(t, provider.rewrapDek(UNKNOWN_KEY), 'KEY_NOT_FOUND');
  });

  test(`${name}: a rewrap with a new key adds a slot for it, and the key goes on working at once`, async (t) => {
    const { provider } = await open(t);
    const made = await make(provider);
    await provider.rewrapDek(made.keyId, { newKekHex: HEX });
    await provider.rewrapDek(made.keyId, { newKekHex: HEX.toUpperCase() });
    t.true(same(await provider.decryptWithDek(made.keyId, made.ciphertext), PLAIN));
    t.deepEqual(
      (await provider.slots()).map(({ state, inUse }) => [state, inUse]),
      [
        ['active', true],
        ['pending', false],
      ],
    );
  });

  test(`${name}: a rotation with a new master key adds a slot that is to follow the others`, async (t) => {
    const { provider } = await open(t);
    const made = await make(provider);
    await provider.rotateKek({ newMasterKeyFile: newKeyFile(t), wait: true });
    t.deepEqual(
      (await provider.slots()).map(({ kind, state, inUse }) => [kind, state, inUse]),
      [
        ['master', 'active', true],
        ['master', 'successor', false],
      ],
    );
    t.true(same(await provider.decryptWithDek(made.keyId, made.ciphertext), PLAIN));
  });

  test(`${name}: slots are added, listed and removed`, async (t) => {
    const { provider } = await open(t);
    const [first] = await provider.slots();
    t.like(first, { kind: 'master', state: 'active', expiresAt: null, inUse: true });
    const masterKeyFile = newKeyFile(t);
    const slot = await provider.addSlot({ masterKeyFile });
    t.like(slot, { kind: 'master', state: 'pending', inUse: false });
    const left = Date.parse(slot.expiresAt!) - Date.now();
    t.true(left > 6.9 * DAY_MS && left <= 7 * DAY_MS, slot.expiresAt!);
    t.is((await provider.addSlot({ masterKeyFile })).slotId, slot.slotId, 'the same key is one slot');
    t.deepEqual(
      (await provider.slots()).map(({ slotId }) => slotId),
      [first!.slotId, slot.slotId],
    );
    await refused(t, provider.removeSlot(first!.slotId), 'CONFLICT', /opened/);
    await provider.removeSlot(slot.slotId);
    t.deepEqual(await provider.slots(), [first!]);
    await refused(t, provider.removeSlot(slot.slotId), 'INVALID_ARGUMENT', /slot/);
  });

  test(`${name}: no more than four keys wait for a start at once`, async (t) => {
    const { provider } = await open(t);
    for (let n = 0; n < 4; n++) await provider.addSlot({ keyHex: `${n}`.repeat(64) });
    await refused(t, provider.addSlot({ keyHex: '4'.repeat(64) }), 'CONFLICT', /slots/);
    t.is((await provider.slots()).length, 5);
  });

  test(`${name}: options that make no sense are refused, and a key in them is not repeated`, async (t) => {
    const { provider } = await open(t);
    const made = await make(provider);
    const wrong: Array<[string, () => Promise<unknown>]> = [
      ['63 digits', () => provider.rotateKek({ newKekHex: HEX.slice(1) })],
      ['no hex', () => provider.rotateKek({ newKekHex: `x${HEX.slice(1)}` })],
      ['two keys', () => provider.rotateKek({ newKekHex: HEX, newMasterKeyFile: '/k' })],
      ['a throttle below zero', () => provider.rotateKek({ keysPerSecond: -1 })],
      ['half a key a second', () => provider.rotateKek({ keysPerSecond: 0.5 })],
      ['a key to abandon that is none', () => provider.rotateKek({ abandon: ['../x'] })],
      ['a rewrap with 65 digits', () => provider.rewrapDek(made.keyId, { newKekHex: `${HEX}0` })],
      ['a slot without a key', () => provider.addSlot({})],
      ['a slot with two keys', () => provider.addSlot({ keyHex: HEX, masterKeyFile: '/k' })],
      ['a slot with half a key', () => provider.addSlot({ keyHex: HEX.slice(32) })],
      ['a slot id that is none', () => provider.removeSlot('../x')],
    ];
    for (const [about, call] of wrong) {
      const error = await refused(t, call, 'INVALID_ARGUMENT', /./, about);
      t.false(error.message.includes(HEX.slice(1, 30)), about);
    }
    t.is((await provider.slots()).length, 1);
    t.is((await provider.rotationStatus()).state, 'idle');
  });

  test(`${name}: a new master key file that is not there changes nothing`, async (t) => {
    const { provider } = await open(t);
    const file = join(scratch(t), 'absent.key');
    await t.throwsAsync(provider.rotateKek({ newMasterKeyFile: file, wait: true }));
    await t.throwsAsync(provider.addSlot({ masterKeyFile: file }));
    t.like(await provider.rotationStatus(), { state: 'idle', rotationId: null, kekVersion: '1' });
    t.is((await provider.slots()).length, 1);
  });
}
