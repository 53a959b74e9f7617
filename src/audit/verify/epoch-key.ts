import {
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  hkdfSync,
  type KeyObject,
} from 'node:crypto';
import { KEY_BYTES, NONCE_BYTES, TAG_BYTES } from '../../limits.js';
import { lp } from '../../store/canonical.js';

const DOMAIN = 'progressdb-kms/audit-epoch/v1';
const EVOLVE = 'evolve';
/** RFC 8410, section 7: what stands before the 32 bytes of an X25519 private key in PKCS #8. */
const PKCS8_HEAD = Buffer.from('302e020100300506032b656e04220420', 'hex');

function x25519Public(bytes: Uint8Array): KeyObject {
  return createPublicKey({ key: { kty: 'OKP', crv: 'X25519', x: Buffer.from(bytes).toString('base64url') }, format: 'jwk' });
}

/**
 * The private key of an auditor, who opens with it what each start sealed to him. Its bytes are in JavaScript here, in the auditor's
 * own process, which has no other key: OpenSSL holds a copy of its own until the process ends.
 */
export class AuditorKey {
  readonly #key: KeyObject;
  readonly publicKey: Buffer;

  /** Wipes `secret`, 32 bytes. */
  constructor(secret: Uint8Array) {
    const der = Buffer.concat([PKCS8_HEAD, secret]);
    secret.fill(0);
    this.#key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
    der.fill(0);
    const { x = '' } = createPublicKey(this.#key).export({ format: 'jwk' });
    this.publicKey = Buffer.from(x, 'base64url');
  }

  /** The first key of an epoch; undefined where it was not sealed to this auditor, for this store and epoch. */
  open(sealed: Buffer, storeId: string, boot: string): EpochKey | undefined {
    const ephemeral = sealed.subarray(0, KEY_BYTES);
    const wrapped = sealed.subarray(KEY_BYTES);
    let under: Buffer | undefined;
    try {
      const shared = diffieHellman({ privateKey: this.#key, publicKey: x25519Public(ephemeral) });
      under = Buffer.from(hkdfSync('sha256', shared, Buffer.concat([ephemeral, this.publicKey]), DOMAIN, KEY_BYTES));
      shared.fill(0);
      const cipher = createDecipheriv('aes-256-gcm', under, wrapped.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES });
      cipher.setAAD(lp([DOMAIN, storeId, boot]));
      cipher.setAuthTag(wrapped.subarray(-TAG_BYTES));
      const key = cipher.update(wrapped.subarray(NONCE_BYTES, -TAG_BYTES));
      cipher.final();
      return new EpochKey(key);
    } catch {
      return undefined;
    } finally {
      under?.fill(0);
    }
  }
}

/** The key of an epoch, which becomes another one with each line. */
export class EpochKey {
  #key: Buffer;

  constructor(key: Buffer) {
    this.#key = key;
  }

  /** Whether `sig` is that of `event`; then the key is the next line's. */
  verifies(event: Uint8Array, sig: Uint8Array): boolean {
    const right = createHmac('sha256', this.#key).update(event).digest().equals(sig);
    const next = createHash('sha256').update(EVOLVE).update(this.#key).digest();
    this.#key.fill(0);
    this.#key = next;
    return right;
  }

  copy(): EpochKey {
    return new EpochKey(Buffer.from(this.#key));
  }

  wipe(): void {
    this.#key.fill(0);
  }
}
