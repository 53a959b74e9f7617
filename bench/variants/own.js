// The product embedded: by key handle into the caller's buffer, by key id with a fresh result, as a promise, and in batches.
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { writeMasterKey } from '../processes.js';

const BATCH = 64;

async function openKms({ product, scratch }) {
  const { createEmbeddedKms } = await import(product);
  const dir = mkdtempSync(join(scratch, 'embedded-'));
  return createEmbeddedKms({ dataDir: join(dir, 'data'), masterKeyFile: writeMasterKey(dir) });
}

export async function variants(ground) {
  if (!ground.product) return {};
  const { plaintext, aad, overhead, synchronous, asynchronous } = ground;
  const kms = await openKms(ground);
  const { keyId } = await kms.createDekForThread('bench');
  const key = await kms.key(keyId);
  const { ciphertext } = await kms.encryptWithDek(keyId, plaintext, aad);
  const opens = async (sealed) => plaintext.equals(await kms.decryptWithDek(keyId, sealed, aad));
  const same = (opened) => plaintext.equals(opened);
  return {
    encryptInto: () => {
      const out = Buffer.alloc(plaintext.length + overhead);
      const loop = synchronous(() => key.encryptInto(plaintext, aad, out, 0));
      return { operation: 'encrypt', ...loop, works: () => opens(out) };
    },
    decryptInto: () => {
      const out = Buffer.alloc(plaintext.length);
      const loop = synchronous(() => key.decryptInto(ciphertext, aad, out, 0));
      return { operation: 'decrypt', ...loop, works: () => same(out) };
    },
    encryptSync: () => ({ operation: 'encrypt', ...synchronous(() => kms.encryptSync(keyId, plaintext, aad)), works: opens }),
    decryptSync: () => ({ operation: 'decrypt', ...synchronous(() => kms.decryptSync(keyId, ciphertext, aad)), works: same }),
    encryptWithDek: () => {
      const loop = asynchronous(() => kms.encryptWithDek(keyId, plaintext, aad));
      return { operation: 'encrypt', ...loop, works: (last) => opens(last.ciphertext) };
    },
    decryptWithDek: () => {
      const loop = asynchronous(() => kms.decryptWithDek(keyId, ciphertext, aad));
      return { operation: 'decrypt', ...loop, works: same };
    },
    encryptMany: () => {
      const batch = Array.from({ length: BATCH }, () => plaintext);
      const loop = asynchronous(() => kms.encryptMany(keyId, batch, aad));
      return { operation: 'encrypt', messages: BATCH, ...loop, works: (last) => last.length === BATCH && opens(last[BATCH - 1]) };
    },
  };
}
