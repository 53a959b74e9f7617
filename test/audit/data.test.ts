import { randomBytes } from 'node:crypto';
import { encode } from '@msgpack/msgpack';
import test, { type ExecutionContext } from 'ava';
import type { EmbeddedKms } from '../../dist/create.js';
import { binding, NEEDS_AUDIT, NO_LIMIT, REPORT, REPORT_LENGTH } from '../../dist/native.js';
import { doorbell } from '../../dist/vault.js';
import { refused, refusedSync } from '../provider/refused.js';
import { openMemory } from '../provider/subjects.js';
import { BOOT, NONE, STORE } from './ground.js';
import { type Line, linesOf } from './lines.js';

const PLAIN = Buffer.from('some plaintext of a message');
const OVERHEAD = 28;
const UNKNOWN = `k_${'0'.repeat(32)}`;

type Sums = Record<string, [count: number, bytes: number]>;

/** Lines added up by actor, key, way and outcome. */
function sumsOf(lines: readonly Line[]): Sums {
  const sums: Sums = {};
  for (const { event } of lines) {
    const name = [event.actor, event.key_id, event.type, event.outcome].join(' ');
    const [count, bytes] = sums[name] ?? [0, 0];
    sums[name] = [count + Number(event.count ?? event.items ?? 1), bytes + Number(event.bytes)];
  }
  return sums;
}

async function audited(t: ExecutionContext, mode: 'grouped' | 'each', cachedKeys = 64) {
  const kms = await openMemory(t, { cachedKeys });
  const chain = binding.openChain(kms.space, STORE, BOOT, 0, NONE.prev);
  t.teardown(() => binding.closeChain(chain));
  binding.setDataAudit(kms.space, mode, binding.auditActor('uid:own'));
  const take = () => {
    const lines: Line[] = [];
    for (;;) {
      const taken = binding.takeData(chain, 65_536);
      if (taken.length === 0) return lines;
      lines.push(...linesOf(taken));
    }
  };
  return { kms, chain, take };
}

async function useEveryWay(t: ExecutionContext, kms: EmbeddedKms, keyId: string): Promise<Sums> {
  const key = await kms.key(keyId);
  const out = Buffer.alloc(PLAIN.length + OVERHEAD);
  const large = randomBytes(300_000);
  const { ciphertext } = await kms.encryptWithDek(keyId, PLAIN);
  kms.encryptSync(keyId, PLAIN);
  kms.encryptInto(keyId, PLAIN, undefined, out);
  key.encryptInto(PLAIN, undefined, out);
  key.encryptSync(PLAIN);
  await kms.encryptWithDek(keyId, PLAIN, undefined, { actor: 'token:ab' });
  await kms.encryptWithDek(keyId, large, undefined, { actor: 'token:ab' });
  await kms.encryptMany(keyId, [PLAIN, PLAIN, large], undefined, { actor: 'token:ab' });
  await kms.decryptWithDek(keyId, ciphertext, undefined, { actor: 'token:ab' });
  kms.decryptSync(keyId, ciphertext);
  await kms.decryptMany(keyId, [ciphertext, out.subarray(1)]);
  await kms.encryptMany(keyId, []);
  await refused(t, kms.decryptWithDek(keyId, PLAIN, undefined, { actor: 'token:ab' }), 'AUTHENTICATION_FAILED');
  const sealed = ciphertext.length;
  return {
    [`uid:own ${keyId} encrypt ok`]: [5, 5 * PLAIN.length],
    [`token:ab ${keyId} encrypt ok`]: [5, 3 * PLAIN.length + 2 * large.length],
    [`token:ab ${keyId} decrypt ok`]: [1, sealed],
    [`uid:own ${keyId} decrypt ok`]: [2, 2 * sealed],
    [`uid:own ${keyId} decrypt AUTHENTICATION_FAILED`]: [1, sealed - 1],
    [`token:ab ${keyId} decrypt AUTHENTICATION_FAILED`]: [1, PLAIN.length],
  };
}

for (const mode of ['grouped', 'each'] as const) {
  test(`${mode}: every form of every operation is told once, of who it is done for`, async (t) => {
    const { kms, take } = await audited(t, mode);
    const { keyId } = await kms.createDek();
    const expected = await useEveryWay(t, kms, keyId);
    const lines = take();
    t.deepEqual(sumsOf(lines), expected);
    for (const { event } of lines) t.is('count' in event, mode === 'grouped');
    t.deepEqual(take(), []);
  });

  test(`${mode}: what keeps a message from its key is told, and what is no message is not`, async (t) => {
    const { kms, take } = await audited(t, mode);
    const [disabled, destroyed] = [(await kms.createDek()).keyId, (await kms.createDek()).keyId];
    const sealed = (await kms.encryptWithDek(disabled, PLAIN)).ciphertext;
    await kms.disableKey(disabled);
    await kms.disableKey(destroyed);
    await kms.destroyKey(destroyed);
    take();
    const out = Buffer.alloc(100);
    await refused(t, kms.encryptWithDek(disabled, PLAIN), 'KEY_DISABLED');
    refusedSync(t, () => kms.decryptSync(disabled, sealed), 'KEY_DISABLED');
    refusedSync(t, () => kms.encryptInto(destroyed, PLAIN, undefined, out), 'KEY_DESTROYED');
    await refused(t, kms.encryptWithDek(UNKNOWN, PLAIN), 'KEY_NOT_FOUND');
    refusedSync(t, () => kms.decryptSync(UNKNOWN, sealed), 'KEY_NOT_FOUND');
    await refused(t, kms.encryptMany(UNKNOWN, [PLAIN, PLAIN]), 'KEY_NOT_FOUND');
    await refused(t, kms.encryptWithDek('no id', PLAIN), 'INVALID_ARGUMENT', /./);
    await refused(t, kms.encryptWithDek(disabled, PLAIN, randomBytes(70_000)), 'TOO_LARGE', /./);
    await refused(t, kms.encryptMany(disabled, []), 'KEY_DISABLED');
    t.deepEqual(sumsOf(take()), {
      [`uid:own ${disabled} encrypt KEY_DISABLED`]: [1, PLAIN.length],
      [`uid:own ${disabled} decrypt KEY_DISABLED`]: [1, sealed.length],
      [`uid:own ${destroyed} encrypt KEY_DESTROYED`]: [1, PLAIN.length],
      [`uid:own ${UNKNOWN} encrypt KEY_NOT_FOUND`]: [2, 3 * PLAIN.length],
      [`uid:own ${UNKNOWN} decrypt KEY_NOT_FOUND`]: [1, sealed.length],
    });
  });
}

test('the default key is told under its own id, for who used it', async (t) => {
  const { kms, take } = await audited(t, 'grouped');
  const sealed = await kms.encrypt(PLAIN, undefined, { actor: 'uid:5' });
  await kms.decrypt(sealed);
  const keyId = `k_${Buffer.from(sealed.subarray(1, 17)).toString('hex')}`;
  t.deepEqual(sumsOf(take()), {
    [`uid:5 ${keyId} encrypt ok`]: [1, PLAIN.length],
    [`uid:own ${keyId} decrypt ok`]: [1, PLAIN.length + OVERHEAD],
  });
});

test('a key that is fetched again and again is one group', async (t) => {
  const { kms, take } = await audited(t, 'grouped', 2);
  const ids: string[] = [];
  for (let i = 0; i < 6; i += 1) ids.push((await kms.createDek()).keyId);
  for (let round = 0; round < 4; round += 1) for (const keyId of ids) await kms.encryptWithDek(keyId, PLAIN);
  t.deepEqual(sumsOf(take()), Object.fromEntries(ids.map((keyId) => [`uid:own ${keyId} encrypt ok`, [4, 4 * PLAIN.length]])));
});

test('while events cannot be written nothing is encrypted or decrypted', async (t) => {
  const { kms, take } = await audited(t, 'grouped');
  const { keyId } = await kms.createDek();
  const { ciphertext } = await kms.encryptWithDek(keyId, PLAIN);
  take();
  binding.setDataRefusal(kms.space, true);
  await refused(t, kms.encryptWithDek(keyId, PLAIN), 'AUDIT_UNAVAILABLE');
  await refused(t, kms.encryptWithDek(keyId, randomBytes(300_000)), 'AUDIT_UNAVAILABLE');
  await refused(t, kms.encryptWithDek(UNKNOWN, PLAIN), 'AUDIT_UNAVAILABLE');
  refusedSync(t, () => kms.decryptSync(keyId, ciphertext), 'AUDIT_UNAVAILABLE');
  t.deepEqual(take(), []);
  binding.setDataRefusal(kms.space, false);
  t.deepEqual(Buffer.from(await kms.decryptWithDek(keyId, ciphertext)), PLAIN);
  t.deepEqual(sumsOf(take()), { [`uid:own ${keyId} decrypt ok`]: [1, ciphertext.length] });
});

test('events that nobody takes hold up what comes after them, and none of them is lost', async (t) => {
  const { kms, take } = await audited(t, 'each');
  const { keyId } = await kms.createDek();
  const { ciphertext } = await kms.encryptWithDek(keyId, PLAIN);
  const handle = binding.findKey(kms.space, keyId);
  const out = Buffer.alloc(PLAIN.length);
  doorbell[1] = 0;
  let done = 1;
  for (; binding.decryptInto(handle, ciphertext, undefined, out, 0) >= 0; done += 1) t.is(doorbell[1] !== 0, done + 1 >= 32_768);
  t.is(done, 65_536);
  t.is(binding.decryptInto(handle, ciphertext, undefined, out, 0), NEEDS_AUDIT);
  t.deepEqual(await binding.decryptOnPool(handle, ciphertext, undefined), [NEEDS_AUDIT, ciphertext]);
  refusedSync(t, () => kms.decryptSync(keyId, ciphertext), 'BUSY', /./);
  await refused(t, kms.encryptWithDek(UNKNOWN, PLAIN), 'BUSY', /written/);
  const lines = take();
  t.is(lines.length, done);
  t.deepEqual(sumsOf(lines), {
    [`uid:own ${keyId} encrypt ok`]: [1, PLAIN.length],
    [`uid:own ${keyId} decrypt ok`]: [done - 1, (done - 1) * ciphertext.length],
  });
  t.deepEqual(Buffer.from(kms.decryptSync(keyId, ciphertext)), PLAIN);
  doorbell[1] = 0;
});

test('a call of the binding says what is wrong with it', async (t) => {
  const { kms, chain } = await audited(t, 'grouped');
  refusedSync(t, () => binding.takeData(chain, 639), 'INVALID_ARGUMENT', /./);
  refusedSync(t, () => binding.takeData(chain + 1_000, 65_536), 'SEALED');
  refusedSync(t, () => binding.setDataAudit(kms.space, 'each', 0), 'INVALID_ARGUMENT', /./);
  refusedSync(t, () => binding.setDataAudit(kms.space, 'all' as 'each', binding.auditActor('uid:own')), 'INVALID_ARGUMENT', /./);
  refusedSync(t, () => binding.setDataAudit(0, 'each', binding.auditActor('uid:own')), 'SEALED');
  refusedSync(t, () => binding.setDataRefusal(0, true), 'SEALED');
  refusedSync(t, () => binding.tellData(kms.space, 1, true, UNKNOWN, 19, 0), 'INVALID_ARGUMENT', /./);
  for (const name of ['', 'a b', 'a"b', 'é', 'a'.repeat(65)]) t.is(binding.auditActor(name), 0, name);
  t.true(binding.auditActor('uid:1') > 0);
  t.is(binding.auditActor('uid:1'), binding.auditActor('uid:1'));
});

test('a frame of a caller without a number is refused where data operations are told', async (t) => {
  const { kms, take } = await audited(t, 'grouped');
  const { keyId } = await kms.createDek();
  await kms.encryptWithDek(keyId, PLAIN);
  take();
  const body = encode([1, 2, keyId, PLAIN, null]);
  const frame = Buffer.concat([Buffer.alloc(4), body]);
  frame.writeUInt32BE(body.length);
  const report = new Int32Array(REPORT_LENGTH);
  const codeFor = (actor: number) => {
    const output = Buffer.alloc(4_096);
    report[REPORT.units] = NO_LIMIT;
    binding.serveChunk(kms.space, 1, actor, Buffer.from(frame), 0, frame.length, output, report);
    return output[6];
  };
  t.is(codeFor(0), 12);
  t.is(codeFor(binding.auditActor('uid:9')), 0);
  t.deepEqual(sumsOf(take()), { [`uid:9 ${keyId} encrypt ok`]: [1, PLAIN.length] });
});
