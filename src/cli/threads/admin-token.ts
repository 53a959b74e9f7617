import { createHash, timingSafeEqual } from 'node:crypto';
import { readChecked } from '../../checked-file.js';
import { KmsError } from '../../errors.js';

const MAX_TOKEN_BYTES = 1_024;
/** Visible characters, as many as 96 random bits take in base64: fewer could be tried out. */
const TOKEN = /^[\x21-\x7e]{16,}$/;

/** The token in a file that is nobody else's. Throws PERMISSION_DENIED and INVALID_ARGUMENT with the path. */
export function readAdminToken(path: string): string {
  const name = '--admin-token-file';
  const bytes = readChecked(name, path, { isSecret: true, isOwned: true, maxBytes: MAX_TOKEN_BYTES });
  const token = bytes.toString('latin1').replace(/\r?\n$/, '');
  bytes.fill(0);
  if (TOKEN.test(token)) return token;
  throw new KmsError('INVALID_ARGUMENT', `${name}: ${path}: one line of 16 or more visible ASCII characters was expected`);
}

/** Tells whether an `Authorization` header holds the token; how long that takes says nothing of where they differ. */
export function bearerOf(token: string): (header: string | undefined) => boolean {
  const expected = digest(`Bearer ${token}`);
  return (header) => header !== undefined && timingSafeEqual(digest(header.replace(/^bearer /i, 'Bearer ')), expected);
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
