import { createPublicKey, type KeyObject, verify } from 'node:crypto';

const DOMAIN = 'progressdb-kms/audit/v1';

/** The keys that sign a log, one after the other; each is set up once. */
export class SigningKeys {
  #text = '';
  #key: KeyObject | undefined;

  /** Whether `signature` is that of `event` under the key `publicKey`, in base64 (Ed25519, RFC 8032). */
  verifies(publicKey: string, storeId: string, event: Uint8Array, signature: Uint8Array): boolean {
    const key = this.#keyOf(publicKey);
    return (
      key !== undefined && verify(null, Buffer.concat([Buffer.from(`${DOMAIN}\0${storeId}\0`, 'latin1'), event]), key, signature)
    );
  }

  #keyOf(text: string): KeyObject | undefined {
    if (text === this.#text) return this.#key;
    this.#text = text;
    const x = Buffer.from(text, 'base64').toString('base64url');
    try {
      this.#key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
    } catch {
      this.#key = undefined;
    }
    return this.#key;
  }
}
