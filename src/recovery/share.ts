import { createHash } from 'node:crypto';
import { KmsError } from '../errors.js';
import { decode, encode } from './base32.js';

const PREFIX = 'KMS1-';
const VERSION = 1;
const SLOT_BYTES = 8;
export const SHARE_BYTES = 33;
const CHECKSUM_BYTES = 6;
const BODY_BYTES = 1 + SLOT_BYTES + 2 + SHARE_BYTES;
const GROUP = 5;
const CHECKSUM_OF = 'progressdb-kms/recovery-share/v1';
const SEPARATORS = new Set(Buffer.from('- \t\r\n', 'latin1'));

/** One share of a recovery key, as docs/FORMATS.md lays it down. */
export interface Share {
  /** The first 16 hex digits of the slot that the key opens. */
  slot: string;
  threshold: number;
  /** From 1. */
  number: number;
  /** To be wiped by whoever has it. */
  bytes: Uint8Array;
}

function checksum(body: Uint8Array): Uint8Array {
  return createHash('sha256').update(CHECKSUM_OF).update(body).digest().subarray(0, CHECKSUM_BYTES);
}

export function slotPrefix(slotId: string): string {
  return slotId.slice(2, 2 + 2 * SLOT_BYTES);
}

/** The text of a share, in bytes that can be wiped. */
export function shareText({ slot, threshold, number, bytes }: Share): Buffer {
  const body = Buffer.alloc(BODY_BYTES);
  body[0] = VERSION;
  body.write(slot, 1, 'hex');
  body[1 + SLOT_BYTES] = threshold;
  body[2 + SLOT_BYTES] = number;
  body.set(bytes, 3 + SLOT_BYTES);
  const whole = Buffer.concat([body, checksum(body)]);
  const digits = encode(whole);
  const groups = digits.length / GROUP;
  const text = Buffer.alloc(PREFIX.length + digits.length + groups - 1, '-');
  text.write(PREFIX, 'latin1');
  for (let group = 0; group < groups; group += 1) {
    text.set(digits.subarray(group * GROUP, (group + 1) * GROUP), PREFIX.length + group * (GROUP + 1));
  }
  for (const secret of [body, whole, digits]) secret.fill(0);
  return text;
}

/** Letters of either case, with or without hyphens and spaces. INVALID_ARGUMENT, which names the share as `name`, for anything else. */
export function parseShare(text: Uint8Array, name: string): Share {
  const bare = Buffer.from(text.filter((character) => !SEPARATORS.has(character)));
  let whole: Uint8Array | undefined;
  try {
    const prefix = bare.toString('latin1', 0, PREFIX.length - 1).toUpperCase();
    if (!/^KMS\d$/.test(prefix)) throw new KmsError('INVALID_ARGUMENT', `${name} does not begin with ${PREFIX}`);
    if (prefix !== PREFIX.slice(0, -1))
      throw new KmsError('UNSUPPORTED', `${name} is of another version than this program knows`);
    whole = decode(bare.subarray(PREFIX.length - 1), BODY_BYTES + CHECKSUM_BYTES, name);
    const body = whole.subarray(0, BODY_BYTES);
    if (!Buffer.from(checksum(body)).equals(whole.subarray(BODY_BYTES))) {
      throw new KmsError('INVALID_ARGUMENT', `${name} has a typing error: its checksum does not match`);
    }
    if (body[0] !== VERSION) throw new KmsError('UNSUPPORTED', `${name} is of another version than this program knows`);
    return {
      slot: Buffer.from(body.subarray(1, 1 + SLOT_BYTES)).toString('hex'),
      threshold: body[1 + SLOT_BYTES] as number,
      number: body[2 + SLOT_BYTES] as number,
      bytes: new Uint8Array(body.subarray(3 + SLOT_BYTES)),
    };
  } finally {
    bare.fill(0);
    whole?.fill(0);
  }
}
