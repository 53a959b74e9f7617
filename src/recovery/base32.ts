import { KmsError } from '../errors.js';

// Crockford's base32 on bytes of text and never on strings: what is read here is wiped afterwards, which a string cannot be.

const DIGITS = Buffer.from('0123456789ABCDEFGHJKMNPQRSTVWXYZ', 'latin1');
const NOT_A_DIGIT = 0xff;

const VALUES = new Uint8Array(256).fill(NOT_A_DIGIT);
for (const [value, digit] of DIGITS.entries()) {
  VALUES[digit] = value;
  VALUES[String.fromCharCode(digit).toLowerCase().charCodeAt(0)] = value;
}
for (const alike of 'Oo') VALUES[alike.charCodeAt(0)] = 0;
for (const alike of 'IiLl') VALUES[alike.charCodeAt(0)] = 1;

/** Five bits a character; the bytes must be a multiple of five. */
export function encode(bytes: Uint8Array): Buffer {
  const out = Buffer.alloc((bytes.length * 8) / 5);
  let [bits, held, at] = [0, 0, 0];
  for (const byte of bytes) {
    bits = (bits << 8) | byte;
    for (held += 8; held >= 5; held -= 5) out[at++] = DIGITS[(bits >>> (held - 5)) & 31] as number;
    bits &= 0xff;
  }
  return out;
}

/** INVALID_ARGUMENT for what is no digit, or for other than `length` bytes. */
export function decode(text: Uint8Array, length: number, name: string): Uint8Array {
  if (text.length !== (length * 8) / 5) {
    throw new KmsError('INVALID_ARGUMENT', `${name} has ${text.length} characters and not ${(length * 8) / 5}`);
  }
  const out = new Uint8Array(length);
  let [bits, held, at] = [0, 0, 0];
  for (const character of text) {
    const value = VALUES[character] as number;
    if (value === NOT_A_DIGIT) throw new KmsError('INVALID_ARGUMENT', `${name} has a character that no share has`);
    bits = ((bits << 5) | value) & 0xfff;
    held += 5;
    if (held < 8) continue;
    held -= 8;
    out[at++] = (bits >>> held) & 0xff;
  }
  return out;
}
