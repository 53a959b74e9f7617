import { KmsError } from '../errors.js';
import {
  ACTOR_PATTERN,
  MAX_THREAD_PREFIXES,
  MAX_TOKEN_FILE_BYTES,
  MAX_TOKENS,
  THREAD_ID_PATTERN,
  TOKEN_ID_PATTERN,
  TOKEN_NAME_PATTERN,
} from '../limits.js';
import { ROLES, type Role } from '../wire/frames.js';

const FORMAT = 1;

/** One token as it stands in the file of docs/FORMATS.md, under the names that it has there. */
export interface StoredToken {
  token_id: string;
  name: string;
  sha256: string;
  roles: Role[];
  created_at: string;
  created_by: string;
  expires_at: string | null;
  thread_prefixes?: string[];
  own?: true;
}

type Rule = readonly [member: keyof StoredToken, holds: (value: unknown) => boolean, text: string];

const matches = (pattern: RegExp) => (value: unknown) => typeof value === 'string' && pattern.test(value);
const isRole = (value: unknown) => ROLES.some((role) => role === value);
const SHA256_PATTERN = /^[0-9a-f]{64}$/;

function isTime(value: unknown): boolean {
  if (typeof value !== 'string' || value.length !== 24) return false;
  const time = Date.parse(value);
  return !Number.isNaN(time) && new Date(time).toISOString() === value;
}

function isList(value: unknown, most: number, holds: (item: unknown) => boolean): boolean {
  if (!Array.isArray(value) || value.length === 0 || value.length > most) return false;
  return value.every(holds) && new Set(value).size === value.length;
}

const RULES: readonly Rule[] = [
  ['token_id', matches(TOKEN_ID_PATTERN), 'must be 16 lower-case hex digits'],
  ['name', matches(TOKEN_NAME_PATTERN), 'must be at most 64 characters of A-Z a-z 0-9 . _ : @ / -'],
  ['sha256', matches(SHA256_PATTERN), 'must be 64 lower-case hex digits'],
  ['roles', (value) => isList(value, 3, isRole), 'must be one or more of client, admin, auditor, none twice'],
  ['created_at', isTime, 'must be a time'],
  ['created_by', matches(ACTOR_PATTERN), 'must be 1 to 64 characters of A-Z a-z 0-9 . _ : @ / -'],
  ['expires_at', (value) => value === null || isTime(value), 'must be a time or null'],
  [
    'thread_prefixes',
    (value) => value === undefined || isList(value, MAX_THREAD_PREFIXES, matches(THREAD_ID_PATTERN)),
    `must be 1 to ${MAX_THREAD_PREFIXES} beginnings of thread ids, none twice`,
  ],
  ['own', (value) => value === undefined || value === true, 'must be true or absent'],
];
const MEMBERS: ReadonlySet<string> = new Set(RULES.map(([member]) => member));

/** The first rule that a token breaks, in words that repeat none of its values; undefined if it keeps all. */
export function brokenRule(token: object): string | undefined {
  for (const [member, holds, text] of RULES) {
    if (!holds((token as Record<string, unknown>)[member])) return `${member} ${text}`;
  }
  const { roles, thread_prefixes, own } = token as StoredToken;
  const isNarrowed = thread_prefixes !== undefined || own === true;
  // An admin may everything and an auditor sees everything: narrowed, they would promise what no check could hold.
  if (isNarrowed && roles.join() !== 'client') return 'thread_prefixes and own go with the role client alone';
  return undefined;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Throws a KmsError of one line that begins with `path` unless all is as docs/FORMATS.md says. No value is repeated in it. */
export function parseTokens(path: string, bytes: Uint8Array): StoredToken[] {
  const refuse = (reason: string): KmsError => new KmsError('STORE_UNAVAILABLE', `${path}: ${reason}`);
  if (bytes.length > MAX_TOKEN_FILE_BYTES) throw refuse(`more than ${MAX_TOKEN_FILE_BYTES} bytes`);
  const [text, document] = decoded(bytes) ?? [];
  if (text === undefined) throw refuse('not JSON');
  if (!isObject(document)) throw refuse('not a JSON object');
  const { format, tokens } = document;
  // Before any other rule: a newer format may have any members of any shape.
  if (Number.isInteger(format) && (format as number) > FORMAT) {
    throw new KmsError('UNSUPPORTED', `${path}: format ${format} is newer than this version knows`);
  }
  if (format !== FORMAT) throw refuse(`format must be ${FORMAT}`);
  if (Object.keys(document).length !== 2) throw refuse('has an unknown member');
  if (!Array.isArray(tokens)) throw refuse('tokens must be a list');
  if (tokens.length > MAX_TOKENS) throw refuse(`more than ${MAX_TOKENS} tokens`);
  for (const [index, token] of tokens.entries()) {
    const fault = faultOf(token);
    if (fault !== undefined) throw refuse(`token ${index + 1}: ${fault}`);
  }
  const stored = tokens as StoredToken[];
  if (hasRepeated(stored, 'token_id') || hasRepeated(stored, 'sha256')) throw refuse('two tokens have the same id or hash');
  if (colonsIn(text) !== stored.reduce((sum, token) => sum + Object.keys(token).length, 2)) throw refuse('a member stands twice');
  return stored;
}

/** Why JSON cannot be read quotes the text, hashes and all: it is neither told nor kept as a cause, which logs print. */
function decoded(bytes: Uint8Array): [text: string, document: unknown] | undefined {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    return [text, JSON.parse(text)];
  } catch {
    return undefined;
  }
}

function faultOf(token: unknown): string | undefined {
  if (!isObject(token)) return 'not a JSON object';
  if (!Object.keys(token).every((member) => MEMBERS.has(member))) return 'has an unknown member';
  return brokenRule(token);
}

function hasRepeated(tokens: StoredToken[], member: 'token_id' | 'sha256'): boolean {
  return new Set(tokens.map((token) => token[member])).size !== tokens.length;
}

/** In valid JSON each member has one colon outside strings; JSON.parse keeps the last of two members of one name. */
function colonsIn(text: string): number {
  return text.replace(/"(?:[^"\\]|\\.)*"/g, '').split(':').length - 1;
}

/** The file of these tokens, read back once: written, what the reader refuses would refuse every token. */
export function tokensJson(path: string, tokens: readonly StoredToken[]): Buffer {
  if (tokens.length > MAX_TOKENS) throw new KmsError('CONFLICT', `there are ${MAX_TOKENS} tokens already; revoke one first`);
  const bytes = Buffer.from(`${JSON.stringify({ format: FORMAT, tokens }, null, 2)}\n`, 'utf8');
  if (bytes.length > MAX_TOKEN_FILE_BYTES) {
    throw new KmsError('TOO_LARGE', `the tokens would take ${bytes.length} bytes, the limit is ${MAX_TOKEN_FILE_BYTES}`);
  }
  parseTokens(path, bytes);
  return bytes;
}
