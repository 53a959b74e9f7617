import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject, randomBytes } from 'node:crypto';
import { KEY_BYTES, NONCE_BYTES, TAG_BYTES } from '../limits.js';

/** AES-256-GCM as an application writes it with node:crypto alone: a random nonce before the ciphertext, the tag behind it. */
export function seal(key: KeyObject, plaintext: Uint8Array, aad: Uint8Array): Buffer {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  cipher.setAAD(aad);
  return Buffer.concat([nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

export function open(key: KeyObject, sealed: Uint8Array, aad: Uint8Array): Buffer {
  const end = sealed.length - TAG_BYTES;
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, NONCE_BYTES));
  decipher.setAAD(aad);
  decipher.setAuthTag(sealed.subarray(end));
  return Buffer.concat([decipher.update(sealed.subarray(NONCE_BYTES, end)), decipher.final()]);
}

/** Keys of nothing but a measurement. */
export function plainKeys(count: number): KeyObject[] {
  return Array.from({ length: count }, () => {
    const raw = randomBytes(KEY_BYTES);
    const key = createSecretKey(raw);
    raw.fill(0);
    return key;
  });
}

/** The id of the key at `index`; `indexOf` turns it round. */
export function plainKeyId(index: number): string {
  return `k_${index}`;
}

export function indexOf(keyId: unknown): number {
  return Number(String(keyId).slice('k_'.length));
}
