import { once } from 'node:events';
import { parentPort, workerData } from 'node:worker_threads';
import { createEmbeddedKms } from '../../dist/create.js';

/** A thread with a provider of its own: told to go, it works until it has done `rounds`, or for ever. */
const { rounds } = workerData as { rounds: number };
const kms = await createEmbeddedKms({ memory: true, cachedKeys: 16 });
const keys = await Promise.all(Array.from({ length: 24 }, () => kms.createDek()));
const plain = new Uint8Array(700).fill(7);
const out = Buffer.alloc(plain.length + 28);
let wrong = 0;
let done = 0;
parentPort!.postMessage({ ready: true });
await once(parentPort!, 'message');
while (done < rounds) {
  for (const { keyId } of keys) {
    kms.encryptInto(keyId, plain, undefined, out);
    if (Buffer.compare(kms.decryptSync(keyId, out), plain) !== 0) wrong += 1;
    done += 1;
  }
  const { keyId } = keys[done % keys.length]!;
  await kms.disableKey(keyId);
  await kms.enableKey(keyId);
  const large = await kms.encryptWithDek(keyId, new Uint8Array(300_000));
  if ((await kms.decryptWithDek(keyId, large.ciphertext)).length !== 300_000) wrong += 1;
}
await kms.close();
parentPort!.postMessage({ wrong, done });
