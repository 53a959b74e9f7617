import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { z } from 'zod';
import { KEY_BYTES, MAX_THREAD_PREFIXES, PUBLIC_KEY_BYTES, SCHEMA_PATTERN, THREAD_ID_PATTERN } from '../../limits.js';
import { STORE_KINDS } from '../../store/key-store.js';
import { ROLES } from '../../wire/frames.js';
import { type Narrowing, NO_UID, OVERFLOW_UID } from '../identity.js';
import { actorOfName } from '../tls/certificates.js';
import { type HostPort, type NoEndpoint, parseEndpoint } from './endpoint.js';

/** sun_path of a Unix address has 108 bytes on Linux, 104 elsewhere, one of them the closing zero. */
const MAX_SOCKET_PATH_BYTES = process.platform === 'linux' ? 107 : 103;
const GROUP_FILE = '/etc/group';
const HEX_KEY = new RegExp(`^[0-9a-fA-F]{${2 * KEY_BYTES}}$`);

export const one = z.string({ error: 'must be one value' });

/** A list, or its items separated by commas. */
export const list = z
  .union([z.string(), z.array(z.string())])
  .transform((given) => (typeof given === 'string' ? (given.trim() === '' ? [] : given.split(',')) : given))
  .transform((items) => items.map((item) => item.trim()));

export const flag = z.enum(['true', 'false'], { error: 'must be true or false' }).transform((text) => text === 'true');

export const level = z.enum(['debug', 'info', 'warn', 'error'], { error: 'must be debug, info, warn or error' });

export const roles = list
  .refine((items) => items.length > 0, 'must name at least one role')
  .pipe(z.array(z.enum(ROLES, { error: 'must be roles out of client, admin and auditor' })));

export function count(least: number, most: number) {
  const rule = `must be a whole number from ${least} to ${most}`;
  return one
    .regex(/^\d{1,15}$/, rule)
    .transform(Number)
    .refine((value) => value >= least && value <= most, rule);
}

export const descriptor = count(0, 2 ** 31 - 1).refine(
  (fd) => fd !== 1 && fd !== 2,
  'must be a descriptor to read from: 0 is standard input',
);

const UIDS = 'must be user ids, separated by commas';
const uid = z
  .string()
  .regex(/^\d{1,10}$/, UIDS)
  .transform(Number)
  .refine((value) => value < NO_UID, UIDS)
  .refine((value) => value !== OVERFLOW_UID, `must not hold ${OVERFLOW_UID}, the uid of everybody unknown`);
export const uids = list.pipe(z.array(uid));

function isPath(text: string): boolean {
  return text !== '' && !text.includes('\0');
}

/** Absolute from here on. */
export const path = one.refine(isPath, 'must be a path').transform((text) => resolve(text));

/** Its name would stand in messages, and a key for a name gets there. */
export const keyFile = path.refine((file) => !/[0-9a-f]{64}$/i.test(file), 'must be the path of a file');

const CERTIFICATE_NAME = /^(CN|DNS|URI|email):[^\p{Cc}\s"]{1,256}$/u;
const CERTIFICATE_NAMES = 'must be names of certificates, as CN:app, DNS:app.internal, URI:spiffe://domain/app or email:a@b';
/** Names of which every one is told apart by its kind: a common name that looks like an address is none. */
export const certificateNames = list.pipe(z.array(z.string().regex(CERTIFICATE_NAME, CERTIFICATE_NAMES)));

const NARROWING = 'must be an identity and what it is for, as "uid:1000 own" or "cert:CN:app thread:chat/ thread:mail/"';

/** As the identities of callers have it, or the narrowing would be nobody's: `DNS:` in small letters, long names as their hash. */
function actorNamed(text: string): string | undefined {
  const [, kind, name = ''] = /^(uid|cert):(.+)$/.exec(text) ?? [];
  if (kind === 'uid') return uid.safeParse(name).success ? `uid:${Number(name)}` : undefined;
  if (kind === 'cert') return CERTIFICATE_NAME.test(name) ? actorOfName(name) : undefined;
  return text === 'loopback' ? text : undefined;
}

/** `own`, and beginnings of thread ids behind `thread:`. */
function narrowingOf(text: string, context: z.RefinementCtx): [actor: string, to: Narrowing] {
  const [named = '', ...words] = text.split(/\s+/);
  const actor = actorNamed(named);
  const threadPrefixes = words.filter((word) => word.startsWith('thread:')).map((word) => word.slice('thread:'.length));
  const isWhole = words.length > 0 && words.every((word) => word === 'own' || word.startsWith('thread:'));
  const areIds = threadPrefixes.length <= MAX_THREAD_PREFIXES && threadPrefixes.every((prefix) => THREAD_ID_PATTERN.test(prefix));
  if (actor === undefined || !isWhole || !areIds) {
    context.addIssue({ code: 'custom', message: NARROWING });
    return z.NEVER;
  }
  return [actor, { ...(threadPrefixes.length > 0 && { threadPrefixes }), ...(words.includes('own') && { own: true }) }];
}

export const narrowings = list
  .pipe(z.array(z.string().transform(narrowingOf)))
  .refine((all) => new Set(all.map(([actor]) => actor)).size === all.length, 'must name each identity once');

const endpoint = z.string().transform((text, context): HostPort => {
  const found = parseEndpoint(text);
  return 'rule' in found ? noEndpoint(found, context) : found;
});
export const endpoints = list.pipe(z.array(endpoint));

function noEndpoint({ rule }: NoEndpoint, context: z.RefinementCtx): never {
  context.addIssue({ code: 'custom', message: rule });
  return z.NEVER;
}

/** What the original daemon takes as a socket: a path, unix:///path, or host:port, which is an endpoint. */
export const socket = one.transform((text, context): string | HostPort => {
  const refuse = (message: string) => {
    context.addIssue({ code: 'custom', message });
    return z.NEVER;
  };
  if (!text.includes('/') && /:\d+$/.test(text)) {
    const found = parseEndpoint(text);
    return 'rule' in found ? noEndpoint(found, context) : found;
  }
  const name = text.startsWith('unix://') ? text.slice('unix://'.length) : text;
  if (!isPath(name)) return refuse('must be the path of a socket');
  if (/^[a-z]+:\/\//i.test(name)) return refuse('must be a path, unix:///path or host:port');
  const absolute = resolve(name);
  if (Buffer.byteLength(absolute) > MAX_SOCKET_PATH_BYTES)
    return refuse(`must be a path of at most ${MAX_SOCKET_PATH_BYTES} bytes`);
  return absolute;
});

/** Group names are read from the file and not through the system's directory services, which may ask the network. */
export const group = one.transform((text, context): number => {
  if (/^\d{1,10}$/.test(text) && Number(text) < NO_UID) return Number(text);
  const line = readFileSync(GROUP_FILE, 'utf8')
    .split('\n')
    .find((candidate) => candidate.split(':')[0] === text);
  const gid = line?.split(':')[2];
  if (text !== '' && gid !== undefined && /^\d+$/.test(gid)) return Number(gid);
  context.addIssue({ code: 'custom', message: `must be a group of ${GROUP_FILE} or a number` });
  return z.NEVER;
});

/** The key's bytes, in memory of their own that can be wiped; the text they came from cannot. */
export const hexKey = one
  .regex(HEX_KEY, `must be ${2 * KEY_BYTES} hex digits`)
  .refine((text) => !/^(..)\1+$/.test(text.toLowerCase()), 'must not be one byte repeated, which is no key')
  .transform((text) => {
    const bytes = new Uint8Array(new ArrayBuffer(KEY_BYTES));
    for (let i = 0; i < KEY_BYTES; i++) bytes[i] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16);
    return bytes;
  });

const PUBLIC_KEY = `must be ${PUBLIC_KEY_BYTES} bytes in base64, as \`progressdb-kms audit new-auditor-key\` prints them`;

/** X25519. */
export const publicKey = one
  .regex(/^[A-Za-z0-9+/]{43}=$/, PUBLIC_KEY)
  .transform((text) => Buffer.from(text, 'base64'))
  .refine((bytes) => bytes.length === PUBLIC_KEY_BYTES && !bytes.every((byte) => byte === 0), PUBLIC_KEY);

export const dataOperations = z.enum(['grouped', 'each', 'off'], { error: 'must be grouped, each or off' });

const KINDS = [...STORE_KINDS, 'postgres'] as const;
export const storeKind = z.enum(KINDS, { error: `must be ${KINDS.join(', ')}` });

export const schemaName = one.regex(SCHEMA_PATTERN, 'must be 1 to 48 lower-case letters, digits and _, with no digit first');
