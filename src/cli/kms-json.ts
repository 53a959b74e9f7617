import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { readChecked } from '../checked-file.js';
import { KmsError } from '../errors.js';
import { MAX_KMS_JSON_BYTES } from '../limits.js';

/** What a client's file says, and which one it is. */
export interface KmsJson {
  path: string;
  serverUrl: string | undefined;
  /** Of the database that data commands work in. */
  databaseSecret: string | undefined;
}

const FILE = 'kms.json';
const NAMES = ['kms_server_url', 'kms_database_secret'] as const;

/**
 * That of `--kms-json`, else `./kms.json`, else `~/.progressdb-kms/kms.json`; undefined if there is none. It belongs to us or root and is
 * open to nobody else, whether there is a secret in it or not: it says whom to trust. Throws INVALID_ARGUMENT for one that is
 * wrong, PERMISSION_DENIED with the command that mends it for one that is open to others; neither repeats what is in it.
 */
export function readKmsJson(named: string | undefined): KmsJson | undefined {
  const path = named === undefined ? [resolve(FILE), join(homedir(), '.progressdb-kms', FILE)].find(existsSync) : resolve(named);
  if (path === undefined) return undefined;
  const bytes = readChecked(named === undefined ? FILE : '--kms-json', path, {
    isSecret: true,
    isOwned: true,
    maxBytes: MAX_KMS_JSON_BYTES,
  });
  try {
    return { path, ...membersOf(path, bytes.toString('utf8')) };
  } finally {
    bytes.fill(0);
  }
}

function membersOf(path: string, text: string): Omit<KmsJson, 'path'> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The parser's message would repeat a part of what it read.
    throw wrong(path, 'it is no JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong(path, 'it is no JSON object');
  const members = value as Record<string, unknown>;
  if (Object.keys(members).some((name) => !NAMES.includes(name as (typeof NAMES)[number]))) {
    throw wrong(path, `only ${NAMES.join(' and ')} are known`);
  }
  const [serverUrl, databaseSecret] = NAMES.map((name) => {
    const member = members[name];
    if (member !== undefined && (typeof member !== 'string' || member === '')) throw wrong(path, `${name} must be a text`);
    return member as string | undefined;
  });
  return { serverUrl, databaseSecret };
}

function wrong(path: string, rule: string): KmsError {
  return new KmsError('INVALID_ARGUMENT', `${path}: ${rule}`);
}
