import { getEventListeners } from 'node:events';
import type { TestFn } from 'ava';
import { KmsError } from '../../dist/errors.js';
import { bytes, HEALTH_CALL, MESSAGE_CALLS, make, PLAIN, ROTATION_CALLS, same, WORKING_CALLS } from './methods.js';
import { refused } from './refused.js';
import type { Open } from './subjects.js';

/** Calls that leave the key usable, so that all of them can be made one after the other. */
const HARMLESS = WORKING_CALLS.filter(([call]) => !['disableKey', 'destroyKey'].includes(call));

export function callContract(test: TestFn, name: string, open: Open): void {
  test(`${name}: a call with an aborted signal ends before it begins`, async (t) => {
    const { provider } = await open(t);
    const made = await make(provider);
    const before = await provider.listKeys();
    const reason = new Error('because');
    for (const [call, run] of [...WORKING_CALLS, ...ROTATION_CALLS, HEALTH_CALL]) {
      const signal = AbortSignal.abort(reason);
      const error = await refused(t, run(provider, made, { signal }), 'DEADLINE_EXCEEDED', /^the call was aborted$/, call);
      t.is(error.cause, reason, call);
    }
    t.deepEqual(await provider.listKeys(), before, 'nothing was made or changed');
  });

  test(`${name}: a call whose signal is aborted while it is under way ends at once, and the service goes on`, async (t) => {
    const { provider } = await open(t);
    const made = await make(provider);
    for (const [call, run] of HARMLESS) {
      const controller = new AbortController();
      const outcome = run(provider, made, { signal: controller.signal });
      controller.abort();
      await refused(t, outcome, 'DEADLINE_EXCEEDED', /^the call was aborted$/, call);
      t.is(getEventListeners(controller.signal, 'abort').length, 0, call);
    }
    t.true(same(await provider.decryptWithDek(made.keyId, made.ciphertext), PLAIN));
  });

  test(`${name}: a signal that is never aborted keeps no listeners`, async (t) => {
    const { provider } = await open(t);
    const made = await make(provider);
    const { signal } = new AbortController();
    for (const [call, run] of HARMLESS) await t.notThrowsAsync(run(provider, made, { signal, deadlineMs: 200_000 }), call);
    await Promise.all(Array.from({ length: 50 }, () => provider.encryptWithDek(made.keyId, PLAIN, undefined, { signal })));
    t.is(getEventListeners(signal, 'abort').length, 0);
  });

  test(`${name}: a call without time left ends before it begins`, async (t) => {
    const { provider } = await open(t);
    const made = await make(provider);
    for (const [call, run] of [...WORKING_CALLS, ...ROTATION_CALLS, HEALTH_CALL]) {
      for (const deadlineMs of [0, -5])
        await refused(t, run(provider, made, { deadlineMs }), 'DEADLINE_EXCEEDED', undefined, call);
    }
    t.is((await provider.describeKey(made.keyId)).version, 1, 'nothing was changed');
  });

  test(`${name}: a deadline may be as far away as one likes, but must be a number`, async (t) => {
    const { provider } = await open(t);
    const made = await make(provider);
    for (const deadlineMs of [200_000, 2 ** 31, 2 ** 53, Number.POSITIVE_INFINITY]) {
      for (const [call, run] of HARMLESS) await t.notThrowsAsync(run(provider, made, { deadlineMs }), `${call} ${deadlineMs}`);
    }
    for (const deadlineMs of [Number.NaN, '5'] as number[]) {
      for (const [call, run] of HARMLESS) {
        await refused(t, () => run(provider, made, { deadlineMs }), 'INVALID_ARGUMENT', /deadlineMs/, `${call} ${deadlineMs}`);
      }
    }
  });

  test(`${name}: after the close every call gives a typed error`, async (t) => {
    const { provider } = await open(t);
    const made = await make(provider);
    const underWay = Array.from({ length: 20 }, () => provider.encryptWithDek(made.keyId, PLAIN));
    await provider.close();
    for (const outcome of await Promise.allSettled(underWay)) {
      t.true(outcome.status === 'fulfilled' || outcome.reason instanceof KmsError, 'what was under way settles');
    }
    for (const [call, run] of [...WORKING_CALLS, ...ROTATION_CALLS]) {
      const error = await t.throwsAsync(async () => run(provider, made), { instanceOf: KmsError }, call);
      t.true(['SEALED', 'STORE_UNAVAILABLE'].includes((error as KmsError).code), `${call}: ${error?.message}`);
      t.regex(error!.message, /closed/, call);
    }
    await t.notThrowsAsync(provider.close(), 'a second close is none');
  });

  test(`${name}: a sealed service answers SEALED to everything but the question how it is`, async (t) => {
    const { provider, seal } = await open(t);
    const made = await make(provider);
    await seal();
    for (const [call, run] of [...WORKING_CALLS, ...ROTATION_CALLS])
      await refused(t, run(provider, made), 'SEALED', undefined, call);
    t.is((await provider.health()).status, 'sealed');
    await t.notThrowsAsync(seal(), 'a second seal is none');
  });

  test(`${name}: a thousand calls in flight over fifty keys all come right where only eight keys are kept`, async (t) => {
    const { provider } = await open(t, { cachedKeys: 8 });
    const keys = await Promise.all(Array.from({ length: 50 }, (_, i) => provider.createDekForThread(`t${i}`)));
    const inputs = Array.from({ length: 1_000 }, (_, i) => ({
      keyId: keys[(i * 17) % 50]!.keyId,
      plain: bytes(i % 300),
      aad: bytes(i % 40),
    }));
    const sealed = await Promise.all(inputs.map(({ keyId, plain, aad }) => provider.encryptWithDek(keyId, plain, aad)));
    const opened = await Promise.all(
      inputs.map(({ keyId, aad }, i) => provider.decryptWithDek(keyId, sealed[i]!.ciphertext, aad)),
    );
    t.true(opened.every((plain, i) => same(plain, inputs[i]!.plain)));
    const mixed = inputs.map(({ keyId, plain, aad }, i) =>
      i % 2 === 0 ? provider.encryptMany(keyId, [plain, plain], aad) : provider.decryptMany(keyId, [sealed[i]!.ciphertext], aad),
    );
    for (const [i, items] of (await Promise.all(mixed)).entries()) {
      t.is(items.length, i % 2 === 0 ? 2 : 1);
      if (i % 2 === 1) t.true(same(items[0] as Uint8Array, inputs[i]!.plain));
    }
  });

  test(`${name}: a key used from many calls at once refuses all of them once its disabling has resolved`, async (t) => {
    const { provider } = await open(t);
    const made = await make(provider);
    const during = Array.from({ length: 100 }, () => provider.encryptWithDek(made.keyId, PLAIN));
    const disabling = provider.disableKey(made.keyId);
    const outcomes = await Promise.allSettled(during);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') t.is((outcome.reason as KmsError).code, 'KEY_DISABLED');
    }
    await disabling;
    for (const [call, run] of MESSAGE_CALLS) await refused(t, run(provider, made), 'KEY_DISABLED', undefined, call);
  });

  test(`${name}: keys made, changed and listed at the same time do not disturb one another`, async (t) => {
    const { provider } = await open(t);
    const made = await Promise.all(
      Array.from({ length: 30 }, async (_, i) => {
        const { keyId } = await provider.createDekForThread(`t${i}`);
        await provider.disableKey(keyId);
        if (i % 3 === 0) await provider.enableKey(keyId);
        if (i % 3 === 1) await provider.destroyKey(keyId);
        return keyId;
      }),
    );
    const states = ['active', 'destroyed', 'disabled'];
    for (const [i, keyId] of made.entries()) t.is((await provider.describeKey(keyId)).state, states[i % 3] as never);
    const twice = await Promise.all([provider.disableKey(made[0]!), provider.disableKey(made[0]!)]);
    t.deepEqual(
      twice.map((key) => key.version),
      [4, 4],
      'of two equal changes one is a write',
    );
  });
}
