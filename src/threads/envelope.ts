import { createHash } from 'node:crypto';
import { lp } from '../store/canonical.js';
import type { Path } from './field-policy.js';
import { isObject, type Json, setMember, stepsInto, valueAt } from './json.js';

const SEALED = 'gcm1';
/** The original's: without AAD, and without the key's name. */
const SEALED_BY_ORIGINAL = 'gcm';
/** A value of the user's that has a member `_enc` of its own. */
const LITERAL = 'lit';

type JsonObject = { [key: string]: Json };

export interface Envelope {
  keyId: string;
  ciphertext: Uint8Array;
}

function hasOnly(value: JsonObject, count: number, kind: string): boolean {
  return Object.hasOwn(value, '_enc') && value['_enc'] === kind && Object.keys(value).length === count;
}

export function envelopeOf({ keyId, ciphertext }: Envelope): Json {
  const { buffer, byteOffset, length } = ciphertext;
  return { _enc: SEALED, k: keyId, v: Buffer.from(buffer, byteOffset, length).toString('base64') };
}

/** Under which key an envelope is, without a look at what is in it; undefined for anything else. */
export function keyOfEnvelope(value: Json): string | undefined {
  if (!isObject(value) || !hasOnly(value, 3, SEALED)) return undefined;
  return typeof value['k'] === 'string' && typeof value['v'] === 'string' ? value['k'] : undefined;
}

/** What stands in place of a sealed value; undefined for anything else. */
export function readEnvelope(value: Json): Envelope | undefined {
  const keyId = keyOfEnvelope(value);
  return keyId === undefined ? undefined : { keyId, ciphertext: Buffer.from((value as { v: string }).v, 'base64') };
}

/** The ciphertext in an envelope of the original's. */
export function readOriginalEnvelope(value: Json): Uint8Array | undefined {
  if (!isObject(value) || !hasOnly(value, 2, SEALED_BY_ORIGINAL)) return undefined;
  return typeof value['v'] === 'string' ? Buffer.from(value['v'], 'base64') : undefined;
}

/** The places of the original's envelopes in a body, not looking into them. */
export function originalEnvelopes(body: Json, path: Path = []): Path[] {
  if (readOriginalEnvelope(body) !== undefined) return [path];
  return stepsInto(body).flatMap((step) => originalEnvelopes(valueAt(body, [step]), [...path, step]));
}

/** Longer ones are named by their digest: a key of the user's may be longer than what a key service takes beside a value. */
const MAX_PLACE_LENGTH = 1_024;

function placeName(path: Path): string {
  const text = JSON.stringify(path);
  if (text.length <= MAX_PLACE_LENGTH) return text;
  // No text of a path begins like this: a place has one name.
  return `sha256:${createHash('sha256').update(text).digest('base64')}`;
}

/** What a value of a message is sealed with: it opens nowhere else than at its place in its message. */
export function envelopeAad(threadId: string, messageId: string, path: Path): Uint8Array {
  return lp(['progressdb-kms/message/v1', threadId, messageId, placeName(path)]);
}

/**
 * A body such that each object in it with a member `_enc` is one of ours: an envelope of `sealed`, or the wrapping of a value of
 * the user's that has such a member. Objects on the way are copied.
 */
export function escaped(body: Json, sealed: ReadonlySet<Json>): Json {
  if (sealed.has(body)) return body;
  if (Array.isArray(body)) return body.map((element) => escaped(element, sealed));
  if (!isObject(body)) return body;
  const copy: JsonObject = {};
  for (const [key, value] of Object.entries(body)) setMember(copy, key, escaped(value, sealed));
  return Object.hasOwn(body, '_enc') ? { _enc: LITERAL, v: copy } : copy;
}

/** Undoes `escaped`: what is left with a member `_enc` is an envelope, or the user's. */
export function unescaped(body: Json): Json {
  if (Array.isArray(body)) return body.map(unescaped);
  if (!isObject(body) || keyOfEnvelope(body) !== undefined) return body;
  const value = hasOnly(body, 2, LITERAL) && isObject(body['v'] as Json) ? (body['v'] as JsonObject) : body;
  const copy: JsonObject = {};
  for (const [key, member] of Object.entries(value)) setMember(copy, key, unescaped(member));
  return copy;
}
