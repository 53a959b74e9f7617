import { createHash, randomBytes } from 'node:crypto';

const ID_BYTES = 8;
const SECRET_BYTES = 32;
const TEXT = /^kms_([0-9a-f]{16})_([A-Za-z0-9_-]{43})$/;

/** What is kept of a token: enough to know it again, not enough to make it. */
export interface KnownToken {
  tokenId: string;
  sha256: Buffer;
}

/** One fast hash without salt: of 256 random bits there is nothing to guess, as there is of a password. */
function hashed(secret: Buffer): Buffer {
  const sha256 = createHash('sha256').update(secret).digest();
  secret.fill(0);
  return sha256;
}

/** A new token, whose text nobody can show again. */
export function makeToken(): KnownToken & { token: string } {
  const tokenId = randomBytes(ID_BYTES).toString('hex');
  const secret = randomBytes(SECRET_BYTES);
  const token = `kms_${tokenId}_${secret.toString('base64url')}`;
  return { tokenId, token, sha256: hashed(secret) };
}

/** The id that a token's text names and the hash of its secret; undefined for any other text. */
export function readToken(text: string): KnownToken | undefined {
  const [, tokenId, encoded] = TEXT.exec(text) ?? [];
  if (tokenId === undefined || encoded === undefined) return undefined;
  const secret = Buffer.from(encoded, 'base64url');
  // 43 characters hold two bits more than 32 bytes: without this a token would have four texts.
  if (secret.toString('base64url') !== encoded) return undefined;
  return { tokenId, sha256: hashed(secret) };
}
