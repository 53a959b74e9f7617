import { KmsError } from '../errors.js';
import { SCHEMA_PATTERN } from '../limits.js';

/** Where a database is, as its URL says. */
export interface PostgresAddress {
  /** A name, a numeric address, or the directory of a Unix socket. */
  host: string;
  port: number;
  user: string;
  password: string | undefined;
  database: string;
  /** TLS with the server's name verified. */
  isVerified: boolean;
}

const DEFAULT_PORT = 5432;
const LOCAL = new Set(['localhost', '127.0.0.1', '[::1]', '::1']);
const KNOWN = new Set(['host', 'port', 'user', 'password', 'dbname', 'sslmode']);

function refused(detail: string): KmsError {
  // The URL itself is never repeated: it holds a password.
  return new KmsError('INVALID_ARGUMENT', `the URL of the database ${detail}`);
}

function parsed(text: string): URL {
  try {
    return new URL(text);
  } catch {
    throw refused(
      'cannot be read; it is postgres://USER:PASSWORD@HOST:PORT/DATABASE, or postgres:///DATABASE?host=/SOCKET/DIRECTORY',
    );
  }
}

function unescaped(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw refused('has a % that begins no escape; one that stands for itself is %25');
  }
}

/** Whether what is said to this host stays on the machine. */
function isLocal(host: string): boolean {
  return host.startsWith('/') || LOCAL.has(host);
}

/** The modes between the two are refused by name: they encrypt for whoever answers. */
function isVerified(mode: string | null, host: string, hasAuthority: boolean): boolean {
  if (host.startsWith('/')) return false;
  if (mode === null) return hasAuthority || !isLocal(host);
  if (mode === 'verify-full') return true;
  if (mode === 'disable' && !hasAuthority) return false;
  throw refused(
    'asks for another sslmode than verify-full or, without a CA file, disable: what is weaker does not tell who answers',
  );
}

/** Throws INVALID_ARGUMENT, without any part of the URL. */
export function addressOf(text: string, hasAuthority: boolean): PostgresAddress {
  const url = parsed(text);
  if (url.protocol !== 'postgres:' && url.protocol !== 'postgresql:') throw refused('must begin with postgres://');
  // Its name is not told: of a password with an & or a ? in it, that is not escaped, it is a part.
  if ([...url.searchParams.keys()].some((name) => !KNOWN.has(name))) {
    throw refused(`has a parameter that is not known; there are ${[...KNOWN].join(', ')}`);
  }
  const told = (name: string, part: string) => url.searchParams.get(name) ?? unescaped(part);
  const host = told('host', url.hostname).replace(/^\[|\]$/g, '') || 'localhost';
  const user = told('user', url.username);
  if (user === '') throw refused('names no user');
  const database = told('dbname', url.pathname.slice(1)) || user;
  const port = Number(told('port', url.port) || DEFAULT_PORT);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw refused('has a port that is none');
  const password = told('password', url.password) || undefined;
  return { host, port, user, password, database, isVerified: isVerified(url.searchParams.get('sslmode'), host, hasAuthority) };
}

export function checkSchema(schema: string): string {
  if (SCHEMA_PATTERN.test(schema)) return schema;
  throw new KmsError('INVALID_ARGUMENT', 'the schema is 1 to 48 lower-case letters, digits and _, with no digit first');
}
