import type { TestFn } from 'ava';
import type { KeyDescription, ListQuery, Provider } from '../../dist/provider.js';
import { MESSAGE_CALLS, make, PLAIN, RECORD_CALLS, UNKNOWN_KEY } from './methods.js';
import { refused } from './refused.js';
import type { Open } from './subjects.js';

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

async function listed(provider: Provider, query: ListQuery): Promise<KeyDescription[]> {
  const keys: KeyDescription[] = [];
  let cursor: string | null = null;
  do {
    const page = await provider.listKeys(cursor === null ? query : { ...query, cursor });
    keys.push(...page.keys);
    cursor = page.next;
  } while (cursor !== null);
  return keys;
}

export function keyContract(test: TestFn, name: string, open: Open): void {
  test(`${name}: a key made for a thread is described as it was made`, async (t) => {
    const { provider, actor } = await open(t);
    const key = await provider.createDekForThread('tenant/7:a@b.c_d-e');
    t.regex(key.keyId, /^k_[0-9a-f]{32}$/);
    t.regex(key.kekId, /^kek_[0-9a-f]{32}$/);
    t.is(key.kekVersion, '1');
    t.is(key.wrapped.length, 60);
    t.deepEqual(Buffer.from(await provider.getWrapped(key.keyId)), Buffer.from(key.wrapped));
    const described = await provider.describeKey(key.keyId);
    t.regex(described.createdAt, TIME);
    t.deepEqual(described, {
      keyId: key.keyId,
      threadId: 'tenant/7:a@b.c_d-e',
      alg: 'A256GCM',
      state: 'active',
      version: 1,
      kekId: key.kekId,
      kekVersion: '1',
      usesReserved: 1_024,
      createdAt: described.createdAt,
      updatedAt: described.createdAt,
      createdBy: actor ?? `uid:${process.getuid?.()}`,
    });
  });

  test(`${name}: a key belongs to no thread, or to its label`, async (t) => {
    const { provider } = await open(t);
    t.is((await provider.describeKey((await provider.createDek()).keyId)).threadId, null);
    t.is((await provider.describeKey((await provider.createDek('label')).keyId)).threadId, 'label');
  });

  test(`${name}: two keys of one thread are two keys`, async (t) => {
    const { provider } = await open(t);
    const [one, two] = await Promise.all([provider.createDekForThread('t'), provider.createDekForThread('t')]);
    t.not(one.keyId, two.keyId);
    const { ciphertext } = await provider.encryptWithDek(one.keyId, PLAIN);
    await refused(t, provider.decryptWithDek(two.keyId, ciphertext), 'AUTHENTICATION_FAILED');
  });

  test(`${name}: a thread id outside its pattern is refused and makes no key`, async (t) => {
    const { provider } = await open(t);
    for (const wrong of ['', 'a'.repeat(257), 'a b', 'a\n', '\0', 'ä', '../$', 7, null, undefined, {}] as string[]) {
      const about = JSON.stringify(wrong);
      await refused(t, () => provider.createDekForThread(wrong), 'INVALID_ARGUMENT', /thread.id/, about);
      if (typeof wrong === 'string')
        await refused(t, () => provider.createDek(wrong), 'INVALID_ARGUMENT', /thread.id|label/, about);
    }
    t.deepEqual(await provider.listKeys(), { keys: [], next: null });
    await t.notThrowsAsync(provider.createDekForThread('a'.repeat(256)));
  });

  test(`${name}: a key that is not there is not found, by any call`, async (t) => {
    const { provider } = await open(t);
    const made = { ...(await make(provider)), keyId: UNKNOWN_KEY };
    for (const [call, run] of [...MESSAGE_CALLS, ...RECORD_CALLS]) {
      await refused(t, run(provider, made), 'KEY_NOT_FOUND', undefined, call);
    }
  });

  test(`${name}: what is no key id is refused before it reaches anything`, async (t) => {
    const { provider } = await open(t);
    const made = await make(provider);
    for (const keyId of [
      '',
      'k_',
      'k_A',
      'x_1',
      `k_${'0'.repeat(65)}`,
      'k_../../etc/passwd',
      'k_1\n',
      'k_1\0',
      7,
      null,
    ] as string[]) {
      for (const [call, run] of [...MESSAGE_CALLS, ...RECORD_CALLS]) {
        const about = `${call} of ${JSON.stringify(keyId)}`;
        await refused(t, () => run(provider, { ...made, keyId }), 'INVALID_ARGUMENT', /key.id/, about);
      }
    }
  });

  test(`${name}: a disabled key refuses to work until it is enabled`, async (t) => {
    const { provider } = await open(t);
    const made = await make(provider);
    const before = await provider.describeKey(made.keyId);
    const disabled = await provider.disableKey(made.keyId);
    t.like(disabled, { state: 'disabled', version: before.version + 1, createdAt: before.createdAt, keyId: made.keyId });
    t.deepEqual(await provider.describeKey(made.keyId), disabled);
    for (const [call, run] of MESSAGE_CALLS) await refused(t, run(provider, made), 'KEY_DISABLED', undefined, call);
    await refused(t, provider.encryptMany(made.keyId, []), 'KEY_DISABLED', undefined, 'an empty batch');
    t.is((await provider.getWrapped(made.keyId)).length, 60);
    t.deepEqual(await provider.disableKey(made.keyId), disabled, 'a second time changes nothing');
    const enabled = await provider.enableKey(made.keyId);
    t.like(enabled, { state: 'active', version: disabled.version + 1 });
    t.deepEqual(await provider.enableKey(made.keyId), enabled, 'a second time changes nothing');
    t.deepEqual(Buffer.from(await provider.decryptWithDek(made.keyId, made.ciphertext)), Buffer.from(PLAIN));
    for (const [call, run] of MESSAGE_CALLS) await t.notThrowsAsync(run(provider, made), call);
  });

  test(`${name}: only a disabled key can be destroyed, and it stays destroyed`, async (t) => {
    const { provider } = await open(t);
    const made = await make(provider);
    await refused(t, provider.destroyKey(made.keyId), 'CONFLICT', /^only a disabled key can be destroyed$/);
    await t.notThrowsAsync(provider.decryptWithDek(made.keyId, made.ciphertext), 'the refusal changed nothing');
    await provider.disableKey(made.keyId);
    const destroyed = await provider.destroyKey(made.keyId);
    t.is(destroyed.state, 'destroyed');
    t.deepEqual(await provider.describeKey(made.keyId), destroyed);
    for (const [call, run] of MESSAGE_CALLS) await refused(t, run(provider, made), 'KEY_DESTROYED', undefined, call);
    await refused(t, provider.encryptMany(made.keyId, []), 'KEY_DESTROYED', undefined, 'an empty batch');
    await refused(t, provider.getWrapped(made.keyId), 'KEY_DESTROYED');
    await refused(t, provider.enableKey(made.keyId), 'KEY_DESTROYED');
    await refused(t, provider.disableKey(made.keyId), 'KEY_DESTROYED');
    t.deepEqual(await provider.destroyKey(made.keyId), destroyed, 'a second time changes nothing');
    t.deepEqual((await provider.listKeys({ threadId: 'thread/1' })).keys, [destroyed]);
  });

  test(`${name}: a state change leaves other keys alone`, async (t) => {
    const { provider } = await open(t);
    const [one, two] = [await make(provider), await make(provider)];
    await provider.disableKey(one.keyId);
    await t.notThrowsAsync(provider.decryptWithDek(two.keyId, two.ciphertext));
    await provider.destroyKey(one.keyId);
    await t.notThrowsAsync(provider.decryptWithDek(two.keyId, two.ciphertext));
  });

  test(`${name}: keys are listed ascending, in pages that neither skip nor repeat, by thread if told`, async (t) => {
    const { provider } = await open(t);
    t.deepEqual(await provider.listKeys(), { keys: [], next: null });
    const made = await Promise.all(Array.from({ length: 70 }, (_, i) => provider.createDekForThread(`t${i % 3}`)));
    const ids = made.map((key) => key.keyId).sort();
    for (const limit of [1, 7, 69, 70, 1_000]) {
      const keys = await listed(provider, { limit });
      t.deepEqual(
        keys.map((key) => key.keyId),
        ids,
        `limit ${limit}`,
      );
    }
    t.is((await provider.listKeys({ limit: 7 })).keys.length, 7);
    t.is((await provider.listKeys()).keys.length, 70, '100 unless told');
    for (const thread of [0, 1, 2]) {
      const own = made.flatMap((key, i) => (i % 3 === thread ? [key.keyId] : [])).sort();
      const keys = await listed(provider, { threadId: `t${thread}`, limit: 5 });
      t.deepEqual(
        keys.map((key) => key.keyId),
        own,
      );
      t.true(keys.every((key) => key.threadId === `t${thread}`));
    }
    t.deepEqual(await provider.listKeys({ threadId: 'nobody' }), { keys: [], next: null });
    t.is((await provider.listKeys({ cursor: 'k_0' })).keys.length, 70, 'a cursor need not be a key that is there');
    t.deepEqual(await provider.listKeys({ cursor: 'k_z' }), { keys: [], next: null });
    const described = await provider.describeKey(ids[0]!);
    t.deepEqual((await provider.listKeys({ limit: 1 })).keys, [described]);
  });

  test(`${name}: a listing refuses what it cannot follow`, async (t) => {
    const { provider } = await open(t);
    for (const limit of [0, -1, 1_001, 1.5, Number.NaN, '5'] as number[]) {
      await refused(t, () => provider.listKeys({ limit }), 'INVALID_ARGUMENT', /limit/, String(limit));
    }
    for (const cursor of ['', 'x', 'k_../x'])
      await refused(t, provider.listKeys({ cursor }), 'INVALID_ARGUMENT', /cursor/, cursor);
    for (const threadId of ['', 'a b']) {
      await refused(t, () => provider.listKeys({ threadId }), 'INVALID_ARGUMENT', /thread.id/, threadId);
    }
  });

  test(`${name}: a sound service is healthy`, async (t) => {
    const { provider } = await open(t);
    const health = await provider.health();
    t.true(['secretmem', 'mlock', 'none'].includes(health.protection));
    t.deepEqual(health, {
      status: 'ok',
      protection: health.protection,
      storeFault: null,
      auditFault: null,
      damagedRecords: [],
      keysNearLimit: [],
    });
  });
}
