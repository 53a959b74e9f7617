import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { closeSync, fsyncSync, openSync, unlinkSync, writeSync } from 'node:fs';
import { readChecked } from '../../checked-file.js';
import { KmsError } from '../../errors.js';
import { KEY_BYTES, MAX_KEY_FILE_BYTES } from '../../limits.js';

const DIGITS = '0123456789abcdef';
const FILE_MODE = 0o600;

/**
 * The 32 bytes of an auditor's private key, from 64 hex digits in a file that is nobody else's; to be wiped. `name` is what named
 * the file. INVALID_ARGUMENT for other content.
 */
export function readAuditorSecret(name: string, file: string): Buffer {
  const text = readChecked(name, file, { isSecret: true, isOwned: true, maxBytes: MAX_KEY_FILE_BYTES });
  try {
    const secret = Buffer.from(new ArrayBuffer(KEY_BYTES));
    const length = text.findLastIndex((byte) => byte > 0x20) + 1;
    let valid = length === 2 * KEY_BYTES;
    for (let i = 0; valid && i < KEY_BYTES; i++) {
      const high = digitOf(text[2 * i]);
      const low = digitOf(text[2 * i + 1]);
      valid = high >= 0 && low >= 0;
      secret[i] = 16 * high + low;
    }
    if (valid) return secret;
    secret.fill(0);
    throw new KmsError('INVALID_ARGUMENT', `${name}: ${file} does not hold 64 hex digits`);
  } finally {
    text.fill(0);
  }
}

function digitOf(byte: number | undefined): number {
  return byte === undefined ? -1 : DIGITS.indexOf(String.fromCharCode(byte).toLowerCase());
}

/**
 * Makes a private key for an auditor and answers the public one, in base64. Throws the system's error if the file cannot be made or
 * exists. A crash leaves a file without its key, or with one whose public half nobody was told of: either is removed by hand.
 */
export function makeAuditorKey(file: string): string {
  const { privateKey } = generateKeyPairSync('x25519');
  const der = privateKey.export({ type: 'pkcs8', format: 'der' });
  const text = Buffer.from(new ArrayBuffer(2 * KEY_BYTES + 1));
  for (const [i, byte] of der.subarray(-KEY_BYTES).entries())
    text.write(DIGITS.charAt(byte >> 4) + DIGITS.charAt(byte & 15), 2 * i);
  text.write('\n', 2 * KEY_BYTES);
  der.fill(0);
  try {
    writeNew(file, text);
  } finally {
    text.fill(0);
  }
  const { x = '' } = createPublicKey(privateKey).export({ format: 'jwk' });
  return Buffer.from(x, 'base64url').toString('base64');
}

function writeNew(file: string, bytes: Uint8Array): void {
  const fd = openSync(file, 'wx', FILE_MODE);
  try {
    writeSync(fd, bytes);
    fsyncSync(fd);
  } catch (error) {
    unlinkSync(file);
    throw error;
  } finally {
    closeSync(fd);
  }
}
