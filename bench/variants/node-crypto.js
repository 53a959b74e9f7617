// node:crypto as an application would use it: a random IV each time, and IV, ciphertext and tag joined. And tuned, to show what
// of the difference is not inherent in it: IVs drawn in batches as ours are, and each part written once to where it belongs.
import { createCipheriv, createDecipheriv, createSecretKey, randomBytes, randomFillSync } from 'node:crypto';

const IV_BYTES = 12;
const BATCH_BYTES = IV_BYTES * 1024;

function tuned({ plaintext, aad, overhead }, key) {
  const batch = Buffer.alloc(BATCH_BYTES);
  let at = BATCH_BYTES;
  return () => {
    if (at === BATCH_BYTES) {
      randomFillSync(batch);
      at = 0;
    }
    const iv = batch.subarray(at, at + IV_BYTES);
    at += IV_BYTES;
    const cipher = createCipheriv('aes-256-gcm', key, iv);
    cipher.setAAD(aad);
    const out = Buffer.allocUnsafe(plaintext.length + overhead);
    out.set(iv);
    out.set(cipher.update(plaintext), IV_BYTES);
    cipher.final();
    out.set(cipher.getAuthTag(), IV_BYTES + plaintext.length);
    return out;
  };
}

export function variants(ground) {
  const { plaintext, aad, rawKey, opensRaw, synchronous } = ground;
  const key = createSecretKey(rawKey);
  const seal = () => {
    const iv = randomBytes(IV_BYTES);
    const cipher = createCipheriv('aes-256-gcm', key, iv);
    cipher.setAAD(aad);
    return Buffer.concat([iv, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
  };
  const sealed = seal();
  // GCM's `final` gives no bytes, so that there is nothing to join.
  const open = () => {
    const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, IV_BYTES));
    decipher.setAAD(aad);
    decipher.setAuthTag(sealed.subarray(sealed.length - 16));
    const opened = decipher.update(sealed.subarray(IV_BYTES, sealed.length - 16));
    decipher.final();
    return opened;
  };
  return {
    'node:crypto': () => ({ operation: 'encrypt', ...synchronous(seal), works: opensRaw }),
    'node:crypto, tuned': () => ({ operation: 'encrypt', ...synchronous(tuned(ground, key)), works: opensRaw }),
    'node:crypto decrypt': () => ({ operation: 'decrypt', ...synchronous(open), works: (opened) => plaintext.equals(opened) }),
  };
}
