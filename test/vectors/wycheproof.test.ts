import test, { type ExecutionContext } from 'ava';
import type { ItemResult } from '../../dist/provider.js';
import { OP } from '../../dist/wire/frames.js';
import { Peer } from '../daemon/peer.js';
import { expectError, refused, refusedSync } from '../provider/refused.js';
import { daemonWith, embeddedWith } from './imported.js';
import { type Vector, wycheproofVectors } from './wycheproof.js';

const vectors = wycheproofVectors();

/** Google's have none: of an empty message everything hangs on the tag. */
const FORGED_EMPTY: Vector = {
  name: 'a forged empty message',
  key: Buffer.alloc(32, 1),
  aad: Buffer.alloc(0),
  plain: Buffer.alloc(0),
  ciphertext: Buffer.alloc(28),
  isValid: false,
};

/** Runs with the vectors and their number told, or is skipped where nobody can miss it. */
function withVectors(name: string, run: (t: ExecutionContext, vectors: Vector[]) => Promise<void>): void {
  test(name, async (t) => {
    if (vectors === undefined) {
      t.log('SKIPPED: ../shared/vectors/wycheproof/aes_gcm_test.json is not there');
      t.pass();
      return;
    }
    const valid = vectors.filter((vector) => vector.isValid).length;
    t.true(valid >= 30 && vectors.length - valid >= 20, 'both kinds are there');
    await run(t, vectors);
    t.log(`${vectors.length} vectors: ${valid} valid, ${vectors.length - valid} invalid`);
  });
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

function expectItem(t: ExecutionContext, vector: Vector, item: ItemResult | undefined): void {
  if (vector.isValid) t.true(item instanceof Uint8Array && same(item, vector.plain), vector.name);
  else expectError(t, item, 'AUTHENTICATION_FAILED', undefined, vector.name);
}

withVectors('the embedded provider decrypts every valid Wycheproof vector and refuses every invalid one', async (t, vectors) => {
  const all = [...vectors, FORGED_EMPTY];
  const { kms, keyIds } = await embeddedWith(
    t,
    all.map((vector) => vector.key),
  );
  for (const [i, vector] of all.entries()) {
    const { aad, ciphertext, plain, name } = vector;
    const keyId = keyIds[i]!;
    const key = await kms.key(keyId);
    const out = Buffer.alloc(plain.length + 2);
    const calls: Array<() => Uint8Array> = [
      () => kms.decryptSync(keyId, ciphertext, aad),
      () => key.decryptSync(ciphertext, aad),
      () => out.subarray(1, 1 + kms.decryptInto(keyId, ciphertext, aad, out, 1)),
      () => out.subarray(2, 2 + key.decryptInto(ciphertext, aad, out, 2)),
    ];
    for (const call of calls) {
      out.fill(0);
      if (vector.isValid) t.true(same(call(), plain), `${name} ${call}`);
      else refusedSync(t, call, 'AUTHENTICATION_FAILED', undefined, `${name} ${call}`);
      if (!vector.isValid)
        t.true(
          out.every((byte) => byte === 0),
          `${name}: nothing is released`,
        );
    }
    if (vector.isValid) t.true(same(await kms.decryptWithDek(keyId, ciphertext, aad), plain), name);
    else await refused(t, kms.decryptWithDek(keyId, ciphertext, aad), 'AUTHENTICATION_FAILED', undefined, name);
    expectItem(t, vector, (await kms.decryptMany(keyId, [ciphertext], [aad]))[0]);
  }
});

withVectors('the daemon decrypts every valid Wycheproof vector and refuses every invalid one', async (t, all) => {
  const { keyIds, client, socket } = await daemonWith(
    t,
    all.map((vector) => vector.key),
  );
  const peer = await Peer.connect(socket);
  for (const [i, vector] of all.entries()) {
    const answer = await peer.ask(OP.decrypt, keyIds[i]!, vector.ciphertext, vector.aad);
    expectItem(t, vector, answer.error ?? (answer.results[0] as Uint8Array));
    const many = await peer.ask(OP.decryptMany, keyIds[i]!, [vector.ciphertext, Buffer.alloc(28)], [vector.aad, null]);
    const [item, other] = many.results[0] as [Uint8Array | [number, string], [number, string]];
    if (vector.isValid) t.true(item instanceof Uint8Array && same(item, vector.plain), vector.name);
    else t.deepEqual(item as [number, string], [2, 'decryption failed'], vector.name);
    t.deepEqual(other, [2, 'decryption failed'], 'the item beside it');
  }
  await peer.close();
  const opened = await Promise.allSettled(
    all.map((vector, i) => client.decryptWithDek(keyIds[i]!, vector.ciphertext, vector.aad)),
  );
  for (const [i, one] of opened.entries()) expectItem(t, all[i]!, one.status === 'fulfilled' ? one.value : one.reason);
});
