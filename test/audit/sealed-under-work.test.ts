import test from 'ava';
import { KmsError } from '../../dist/errors.js';
import { DataEvents } from '../../dist/kms/data-events.js';
import { Vault } from '../../dist/vault.js';
import { refused, refusedSync } from '../provider/refused.js';
import { auditedKms, linesOf, newGroundOf } from './audited.js';

const MESSAGES = 16;
const ROUNDS = 8;
const UNKNOWN = `k_${'0'.repeat(32)}`;

for (const mode of ['grouped', 'each'] as const) {
  test(`${mode}: what the pool had begun when the service was sealed is in the log, or was not done`, async (t) => {
    const ground = newGroundOf(t);
    const kms = await auditedKms(t, ground, { audit: { dataOperations: mode } });
    const { keyId } = await kms.createDek();
    const large = Buffer.alloc(2 * 1024 * 1024);
    let done = 0;
    for (let round = 0; round < ROUNDS; round += 1) {
      await kms.unseal();
      const messages = Array.from({ length: MESSAGES }, () => kms.encryptWithDek(keyId, large));
      await Promise.race(messages);
      await kms.seal();
      done += (await Promise.allSettled(messages)).filter(({ status }) => status === 'fulfilled').length;
    }
    const told = linesOf(ground).filter(({ type, outcome }) => type === 'encrypt' && outcome === 'ok');
    t.is(
      told.reduce((sum, { count }) => sum + Number(count ?? 1), 0),
      done,
    );
    t.true(done >= ROUNDS);
  });
}

test('what failed of its key, and can no longer be told because the service was sealed meanwhile, is told that it is sealed', async (t) => {
  const vault = Vault.open({ arenaBytes: 1024 * 1024, keptContexts: 64 }, 10);
  const events = new DataEvents(vault, async () => undefined);
  const message = { encrypts: true, keyId: UNKNOWN, bytes: 1, actor: 0 };
  const error = new KmsError('KEY_NOT_FOUND');
  t.is((await events.failed(message, error)).code, 'KEY_NOT_FOUND');
  vault.close();
  await refused(t, events.failed(message, error), 'SEALED');
  await refused(t, events.failedFrame(0, new Uint8Array(0), error), 'SEALED');
  refusedSync(t, () => events.failedNow(message, error), 'SEALED');
  // What is no use of a key has nothing to tell.
  t.is((await events.failed(message, new KmsError('BUSY'))).code, 'BUSY');
});

test('a frame that failed of its key is answered SEALED where there is no log any more', async (t) => {
  const kms = await auditedKms(t, newGroundOf(t), { audit: { dataOperations: 'each' } });
  await kms.seal();
  t.is((await kms.failedFrame(0, new Uint8Array(0), new KmsError('KEY_NOT_FOUND'))).code, 'SEALED');
});

test('who is named by what is no name is told so', async (t) => {
  const ground = newGroundOf(t);
  const kms = await auditedKms(t, ground, { audit: { dataOperations: 'grouped' } });
  const { keyId } = await kms.createDek();
  await refused(t, kms.encryptWithDek(keyId, Buffer.from('x'), undefined, { actor: 'no name' }), 'INVALID_ARGUMENT', /actor/);
});
