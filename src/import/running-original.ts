import { KmsError } from '../errors.js';
import { IMPORT_TIMEOUT_MS, KEY_ID_PATTERN, MAX_IMPORT_ANSWER_BYTES } from '../limits.js';
import { linesOf } from './key-files.js';
import { type Finding, fault, keyOf } from './original-key.js';

/** Questions at once: the original answers some thousand a second. */
const ASKED_AT_ONCE = 8;

interface Asked {
  where: string;
  keyId: string;
  threadId: string;
}

/** The keys of a running Go daemon, by GET /get_wrapped. It has no list of them: `ids` names a file of key ids. */
export async function* keysFrom(endpoint: string, ids: string): AsyncGenerator<Finding> {
  const server = serverOf(endpoint);
  let batch: Asked[] = [];
  for await (const { number, text } of linesOf(ids)) {
    const where = `${ids}:${number}`;
    const [keyId = '', threadId = '', ...more] = (text ?? '').split(/\s+/);
    if (!KEY_ID_PATTERN.test(keyId) || more.length > 0)
      yield fault(where, 'a key id was expected, and its thread id after a space');
    else batch.push({ where, keyId, threadId });
    if (batch.length < ASKED_AT_ONCE) continue;
    yield* await Promise.all(batch.map((asked) => fetched(server, asked)));
    batch = [];
  }
  yield* await Promise.all(batch.map((asked) => fetched(server, asked)));
}

interface Server {
  base: string;
  headers: Record<string, string>;
}

/** A path before the endpoints and a user with password are a proxy's, as the Go client takes them. */
function serverOf(endpoint: string): Server {
  try {
    const url = new URL(/^https?:\/\//.test(endpoint) ? endpoint : `http://${endpoint}`);
    const { username, password } = url;
    const credentials = Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString('base64');
    const base = `${url.origin}${url.pathname.replace(/\/$/, '')}`;
    return { base, headers: username === '' ? {} : { authorization: `Basic ${credentials}` } };
  } catch {
    // Nor may the text be repeated, which may hold a password; a stray % in one is what fails to be decoded.
    throw new KmsError('INVALID_ARGUMENT', 'not the URL of a Go daemon, as http://127.0.0.1:6820');
  }
}

/** How the audit log is told of an endpoint: without its user and password. */
export function endpointName(endpoint: string): string {
  return serverOf(endpoint).base;
}

async function fetched({ base, headers }: Server, { where, keyId, threadId }: Asked): Promise<Finding> {
  let answer: Response;
  let text: string | undefined;
  try {
    const signal = AbortSignal.timeout(IMPORT_TIMEOUT_MS);
    answer = await fetch(`${base}/get_wrapped?key_id=${keyId}`, { headers, signal, redirect: 'error' });
    text = await bodyOf(answer);
  } catch (cause) {
    const { name, cause: reason } = cause as Error & { cause?: { code?: string } };
    const why = name === 'TimeoutError' ? 'no answer in time' : (reason?.code ?? 'the connection failed');
    throw new KmsError('INVALID_ARGUMENT', `the Go daemon at ${base} cannot be asked: ${why}`, { cause });
  }
  if (answer.status === 404) return fault(where, `${keyId}: the Go daemon has no such key`);
  if (answer.status !== 200) return fault(where, `${keyId}: the Go daemon answers ${answer.status}`);
  if (text === undefined) return fault(where, `${keyId}: the answer is longer than ${MAX_IMPORT_ANSWER_BYTES} bytes`);
  try {
    return keyOf(where, { wrapped: JSON.parse(text)?.wrapped, key_id: keyId, thread_id: threadId });
  } catch {
    return fault(where, `${keyId}: the answer is not JSON`);
  }
}

/** Undefined for a longer one than any that is meant; not read to its end. */
async function bodyOf(answer: Response): Promise<string | undefined> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of answer.body ?? []) {
    length += part.length;
    if (length > MAX_IMPORT_ANSWER_BYTES) return undefined;
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}
