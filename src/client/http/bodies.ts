import { markAsUntransferable } from 'node:worker_threads';
import { ERROR_TABLE, type ErrorCode, KmsError } from '../../errors.js';
import { MAX_HTTP_BODY_BYTES } from '../../limits.js';
import type { BatchAad, CreatedKey, Encrypted, ItemResult, KeyPage } from '../../provider.js';
import { PROTOCOL_VERSION } from '../../wire/frames.js';
import { errorOfWire, listOf, mapOf, memberOf, pageOfResults, textOf, unexpected } from '../../wire/messages.js';
import type { Greeting } from '../kms-client.js';
import type { Reply } from './exchange.js';

/** The JSON of requests and answers. What an answer holds is believed only after it was looked at. */

/** What a status means that comes without an error of the service: something else on the way answered. */
const CODE_BY_STATUS: Readonly<Record<number, ErrorCode>> = {
  400: 'INVALID_ARGUMENT',
  401: 'UNAUTHENTICATED',
  403: 'PERMISSION_DENIED',
  // Not KEY_NOT_FOUND: whoever does not know the route knows nothing of keys.
  404: 'UNSUPPORTED',
  405: 'UNSUPPORTED',
  409: 'CONFLICT',
  413: 'TOO_LARGE',
  429: 'BUSY',
  501: 'UNSUPPORTED',
  502: 'STORE_UNAVAILABLE',
  503: 'STORE_UNAVAILABLE',
  504: 'DEADLINE_EXCEEDED',
};

export function bodyOf(members: Record<string, unknown>): Buffer {
  return Buffer.from(JSON.stringify(members));
}

export function base64Of(data: Uint8Array): string {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('base64');
}

/** A batch as `bodyOf` takes it. Throws TOO_LARGE before it encodes what could not be sent. */
export function batchOf(
  items: readonly Uint8Array[],
  aad: BatchAad,
): { items: string[]; aad: string | Array<string | null> | undefined } {
  const each = aad === undefined || aad instanceof Uint8Array ? undefined : aad;
  let bytes = 0;
  for (const item of items) bytes += item.length;
  for (const item of each ?? []) bytes += item?.length ?? 0;
  if ((bytes * 4) / 3 > MAX_HTTP_BODY_BYTES) throw new KmsError('TOO_LARGE', `a request of ${bytes} bytes`);
  return {
    items: items.map(base64Of),
    aad:
      each === undefined
        ? optionalBase64Of(aad as Uint8Array | undefined)
        : each.map((item) => (item === undefined ? null : base64Of(item))),
  };
}

export function optionalBase64Of(data: Uint8Array | undefined): string | undefined {
  return data === undefined ? undefined : base64Of(data);
}

/** The JSON of an answer that says the request was done. Throws the error it is otherwise. */
export function answerOf(reply: Reply): unknown {
  if (reply.status !== 200) throw errorOf(reply);
  const answer = jsonOf(reply.body);
  if (answer === undefined) throw unexpected('JSON');
  return answer;
}

/** A database's secret, as it is given back: a JSON string. */
export function secretOf(answer: unknown): Uint8Array {
  const text = textOf(answer, 'secret');
  const secret = Buffer.from(new ArrayBuffer(text.length));
  secret.write(text, 'latin1');
  return secret;
}

/** A page of the objects that somebody owns. */
export function ownedOf(answer: unknown): KeyPage {
  const keyOf = (object: unknown) => ({
    ...mapOf(memberOf(object, 'attributes'), 'attributes'),
    key_id: memberOf(object, 'object_id'),
    state: memberOf(object, 'state'),
  });
  return pageOfResults([listOf(memberOf(answer, 'objects'), 'objects').map(keyOf), memberOf(answer, 'next')]);
}

/** The error behind any status but 200. */
export function errorOf({ status, body }: Reply): KmsError {
  if (status >= 300 && status < 400) {
    // Followed, it would take the token and the plaintext to wherever it says.
    return new KmsError('STORE_UNAVAILABLE', `the server answered with a redirect (${status}), which is not followed`);
  }
  const named = status >= 400 ? namedError(memberOf(jsonOf(body), 'error')) : undefined;
  if (named !== undefined) return named;
  return new KmsError(CODE_BY_STATUS[status] ?? 'INTERNAL', `the server answered with status ${status}`);
}

/** The binary under `name`, in memory of its own. Canonical base64 only: one value has one text. */
export function binaryOf(answer: unknown, name: string): Uint8Array {
  const text = memberText(answer, name);
  const bytes = Buffer.allocUnsafeSlow(Buffer.byteLength(text, 'base64'));
  if (bytes.write(text, 'base64') !== bytes.length || bytes.toString('base64') !== text) throw unexpected(name);
  // As results over the other protocol are.
  markAsUntransferable(bytes.buffer);
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
}

export function createdOf(answer: unknown): CreatedKey {
  return {
    keyId: memberText(answer, 'key_id'),
    wrapped: binaryOf(answer, 'wrapped'),
    kekId: memberText(answer, 'kek_id'),
    kekVersion: memberText(answer, 'kek_version'),
  };
}

export function encryptedOf(answer: unknown): Encrypted {
  return { ciphertext: binaryOf(answer, 'ciphertext'), keyVersion: memberText(answer, 'key_version') };
}

export function pageOf(answer: unknown): KeyPage {
  return pageOfResults([memberOf(answer, 'keys'), memberOf(answer, 'next')]);
}

export function statusOf(answer: unknown): Record<string, unknown> {
  return mapOf(answer, 'status');
}

/** What a hello would say, from the status. */
export function greetingOf(answer: unknown): Greeting {
  return {
    version: PROTOCOL_VERSION,
    server: `progressdb-kms/${memberText(answer, 'version')}`,
    protection: memberText(answer, 'protection'),
    sealed: memberText(answer, 'status') === 'sealed',
  };
}

/** The results of a batch of `count` items, each of which stands under `member`. */
export function itemsOf(answer: unknown, member: 'plaintext' | 'ciphertext', count: number): ItemResult[] {
  const results = listOf(memberOf(answer, 'results'), 'results');
  if (results.length !== count) throw new KmsError('INTERNAL', 'the key service answered for another number of items');
  return results.map((result) => {
    const error = memberOf(result, 'error');
    if (error === undefined) return binaryOf(result, member);
    const named = namedError(error);
    if (named === undefined) throw unexpected('error');
    return named;
  });
}

function memberText(answer: unknown, name: string): string {
  return textOf(memberOf(answer, name), name);
}

/** `{"code", "message"}`; undefined for a code that this version does not know. */
function namedError(error: unknown): KmsError | undefined {
  const code = memberOf(error, 'code');
  if (typeof code !== 'string' || !Object.hasOwn(ERROR_TABLE, code)) return undefined;
  const message = memberOf(error, 'message');
  return errorOfWire(ERROR_TABLE[code as ErrorCode].wire, typeof message === 'string' ? message : '');
}

/** Undefined for what is none. The parser's own error would quote it, and it may be plaintext. */
function jsonOf(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    return undefined;
  }
}
