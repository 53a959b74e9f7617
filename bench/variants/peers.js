// Other libraries with a key in hand: a fresh result of nonce, ciphertext and tag each time.
import { randomBytes, webcrypto } from 'node:crypto';
import { gcm } from '@noble/ciphers/aes.js';
import sodium from 'sodium-native';

/** AES-256-GCM where the binding offers it and the CPU has it, else the fastest it has with a 12-byte nonce. */
function sodiumVariant({ plaintext, aad, rawKey, overhead, synchronous }) {
  const aes = typeof sodium.crypto_aead_aes256gcm_encrypt === 'function' && sodium.crypto_aead_aes256gcm_is_available?.();
  const cipher = aes ? 'crypto_aead_aes256gcm' : 'crypto_aead_chacha20poly1305_ietf';
  const encrypt = sodium[`${cipher}_encrypt`];
  const seal = () => {
    const out = Buffer.allocUnsafe(plaintext.length + overhead);
    const nonce = out.subarray(0, 12);
    sodium.randombytes_buf(nonce);
    encrypt(out.subarray(12), plaintext, aad, null, nonce, rawKey);
    return out;
  };
  const works = (sealed) => {
    const opened = Buffer.alloc(plaintext.length);
    sodium[`${cipher}_decrypt`](opened, null, sealed.subarray(12), aad, sealed.subarray(0, 12), rawKey);
    return plaintext.equals(opened);
  };
  return { operation: 'encrypt', algorithm: aes ? 'AES-256-GCM' : 'ChaCha20-Poly1305', ...synchronous(seal), works };
}

export function variants(ground) {
  const { plaintext, aad, rawKey, opensRaw: works, synchronous, asynchronous } = ground;
  return {
    WebCrypto: async () => {
      const key = await webcrypto.subtle.importKey('raw', rawKey, 'AES-GCM', false, ['encrypt']);
      const seal = async () => {
        const iv = webcrypto.getRandomValues(new Uint8Array(12));
        const sealed = await webcrypto.subtle.encrypt({ name: 'AES-GCM', iv, additionalData: aad }, key, plaintext);
        return Buffer.concat([iv, Buffer.from(sealed)]);
      };
      return { operation: 'encrypt', ...asynchronous(seal), works };
    },
    'sodium-native': () => sodiumVariant(ground),
    '@noble/ciphers': () => {
      const seal = () => {
        const iv = randomBytes(12);
        return Buffer.concat([iv, gcm(rawKey, iv, aad).encrypt(plaintext)]);
      };
      return { operation: 'encrypt', ...synchronous(seal), works };
    },
  };
}
