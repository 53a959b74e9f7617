import { isIPv4 } from 'node:net';
import { z } from 'zod';
import { MAX_SUBJECT_LENGTH, SUBJECT_PATTERN } from '../../limits.js';
import { list, one } from './values.js';

/** What may be allowed. Nothing symmetric: the public key that everybody has would be the secret. */
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'] as const;
const VISIBLE = /^[\x21-\x7e]{1,255}$/;
/** A claim's name may itself be a URL, as those are that no standard registers. */
const CLAIM = /^[A-Za-z0-9._:@/-]{1,128}$/;

export const issuer = one.regex(VISIBLE, 'must be the `iss` of the tokens, at most 255 visible ASCII characters');

export const audiences = list.pipe(z.array(z.string().regex(VISIBLE, 'must be `aud` values of at most 255 visible characters')));

export const algorithms = list
  .refine((items) => items.length > 0, 'must name at least one algorithm')
  .pipe(z.array(z.enum(ALGORITHMS, { error: `must be algorithms out of ${ALGORITHMS.join(', ')}` })));

export const subjects = list.pipe(
  z.array(z.string().regex(SUBJECT_PATTERN, `must be \`sub\` values of 1 to ${MAX_SUBJECT_LENGTH} printable ASCII characters`)),
);

export const claimName = one.regex(CLAIM, 'must be the name of a claim, of A-Z a-z 0-9 . _ : @ / -');

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '[::1]' || (isIPv4(host) && host.startsWith('127.'));
}

/** Whoever answers says who is admin: nobody on the way may do that. */
export const keysUrl = one.transform((text, context): string => {
  const refuse = (message: string) => {
    context.addIssue({ code: 'custom', message });
    return z.NEVER;
  };
  if (!URL.canParse(text)) return refuse('must be a URL');
  const { protocol, hostname, username, password, hash, href } = new URL(text);
  if (protocol !== 'https:' && protocol !== 'http:') return refuse('must be an https:// URL');
  if (protocol === 'http:' && !isLoopback(hostname)) return refuse('must be https://, except on loopback');
  if (username !== '' || password !== '') return refuse('must not hold a user or a password');
  return hash === '' ? href : refuse('must not hold a fragment');
});
