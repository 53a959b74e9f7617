import {
  createDecipheriv,
  createHash,
  createHmac,
  createPublicKey,
  diffieHellman,
  hkdfSync,
  type KeyObject,
  verify,
} from 'node:crypto';

export type Event = Record<string, string | number | boolean | null>;

/** One line, taken apart by the text of docs/FORMATS.md. */
export interface Line {
  event: Event;
  /** The bytes of the event object as they stand in the line. */
  bytes: Buffer;
  sig: string;
  ed25519: string | undefined;
  /** SHA-256 of the line without its line feed. */
  hash: string;
}

const SHAPE = /^\{"event":(\{.*\}),"sig":"([A-Za-z0-9+/]{43}=)"(?:,"ed25519":"([A-Za-z0-9+/]{86}==)")?\}$/;

export function linesOf(bytes: Uint8Array): Line[] {
  const text = Buffer.from(bytes).toString('utf8');
  if (text === '') return [];
  if (!text.endsWith('\n')) throw new Error('the last line is not ended');
  return text
    .slice(0, -1)
    .split('\n')
    .map((line) => {
      const [, event, sig, ed25519] = SHAPE.exec(line) ?? [];
      if (event === undefined || sig === undefined) throw new Error(`no line of the log: ${line}`);
      const hash = createHash('sha256').update(line, 'utf8').digest('hex');
      return { event: JSON.parse(event), bytes: Buffer.from(event, 'utf8'), sig, ed25519, hash };
    });
}

/** Checks the signatures of one epoch from the first line on; returns what is wrong with the first that is wrong. */
export class Epoch {
  private key: Buffer;

  constructor(key: Uint8Array) {
    this.key = Buffer.from(key);
  }

  /** Whether the line is signed with the key as it is, which then goes on. */
  matches(line: Line): boolean {
    const mac = createHmac('sha256', this.key).update(line.bytes).digest('base64');
    this.key = createHash('sha256').update('evolve').update(this.key).digest();
    return mac === line.sig;
  }
}

export function keyOf(kind: 'ed25519' | 'x25519', raw: Uint8Array): KeyObject {
  const prefix = { ed25519: '302a300506032b6570032100', x25519: '302a300506032b656e032100' }[kind];
  return createPublicKey({ key: Buffer.concat([Buffer.from(prefix, 'hex'), raw]), format: 'der', type: 'spki' });
}

/** Whether the line has an Ed25519 signature by this key. */
export function isSigned(line: Line, storeId: string, publicKey: Uint8Array): boolean {
  const message = Buffer.concat([Buffer.from(`progressdb-kms/audit/v1\0${storeId}\0`), line.bytes]);
  const signature = Buffer.from(line.ed25519 ?? '', 'base64');
  return verify(null, message, keyOf('ed25519', publicKey), signature);
}

function lengthPrefixed(fields: readonly string[]): Buffer {
  return Buffer.concat(
    fields.flatMap((field) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(Buffer.byteLength(field));
      return [length, Buffer.from(field)];
    }),
  );
}

/** The epoch key that was sealed to the auditor's pair. */
export function openEpochKey(sealed: Uint8Array, own: KeyObject, ownPublic: Uint8Array, storeId: string, boot: string): Buffer {
  const [e, nonce, ciphertext, tag] = [
    sealed.subarray(0, 32),
    sealed.subarray(32, 44),
    sealed.subarray(44, 76),
    sealed.subarray(76),
  ];
  const shared = diffieHellman({ privateKey: own, publicKey: keyOf('x25519', e) });
  const under = hkdfSync('sha256', shared, Buffer.concat([e, ownPublic]), 'progressdb-kms/audit-epoch/v1', 32);
  const cipher = createDecipheriv('aes-256-gcm', Buffer.from(under), nonce);
  cipher.setAAD(lengthPrefixed(['progressdb-kms/audit-epoch/v1', storeId, boot]));
  cipher.setAuthTag(tag);
  return Buffer.concat([cipher.update(ciphertext), cipher.final()]);
}
