import { KmsError } from '../errors.js';
import { DATABASE_ID_PATTERN, KEY_ID_PATTERN, ROTATION_ID_PATTERN } from '../limits.js';
import { partsOf } from './document-names.js';

// What stands under which key of keys.lmdb: docs/FORMATS.md. No id comes into a key before it matched its pattern, and no pattern
// has a '/', so that no two names are one.

export const FORMAT_KEY = 'format';
export const FORMAT = '1';

/** After every character that an id may have. */
const BEYOND = '\x7f';

/** Names that share a beginning: those after it, in their order, are what it is put before. */
export class Names {
  readonly prefix: string;
  readonly #pattern: RegExp;
  readonly #what: string;

  constructor(prefix: string, pattern: RegExp, what: string) {
    this.prefix = prefix;
    this.#pattern = pattern;
    this.#what = what;
  }

  keyOf(id: string): string {
    if (!this.#pattern.test(id)) throw new KmsError('INVALID_ARGUMENT', `not a ${this.#what}`);
    return this.prefix + id;
  }

  /** Of a key that was found: what is written there is an id, so that anything else comes of damage. */
  idOf(key: string): string {
    const id = key.slice(this.prefix.length);
    if (!this.#pattern.test(id)) throw new KmsError('STORE_UNAVAILABLE', `an entry is damaged: its key is no ${this.#what}`);
    return id;
  }

  /** The keys of the ids after one, which need not match. */
  after(id: string | undefined, limit: number): { from: string; to: string; limit: number } {
    // The character below all others that a key has.
    const from = id === undefined ? this.prefix : `${this.prefix}${id} `;
    return { from, to: this.prefix + BEYOND, limit };
  }
}

export const RECORDS = new Names('r/', KEY_ID_PATTERN, 'key id');
export const KEYRINGS = new Names('k/', ROTATION_ID_PATTERN, 'rotation id');
export const DATABASES = new Names('d/', DATABASE_ID_PATTERN, "database's name");

function ofRotation(kind: string, rotationId: string): Names {
  if (!ROTATION_ID_PATTERN.test(rotationId)) throw new KmsError('INVALID_ARGUMENT', 'not a rotation id');
  return new Names(`${kind}/${rotationId}/`, KEY_ID_PATTERN, 'key id');
}

export function backupsOf(rotationId: string): Names {
  return ofRotation('b', rotationId);
}

/** Records that were set aside while an older state was kept. */
export function asideOf(rotationId: string): Names {
  return ofRotation('s', rotationId);
}

/** By rotation, and then whatever a rotation has. */
export const BACKUP_KINDS = ['b/', 's/', 'k/'] as const;

/** What is moved to another store as it is: backups, kept keyrings, records, and what was set aside. */
export const ENTRY_KINDS = ['b/', 'k/', 'r/', 's/'] as const;

/** What is in a database. */
export function within(database: string): Names {
  const [known] = partsOf(database);
  return new Names(`e/${known}/`, DATABASE_ID_PATTERN, "document's name");
}

/** A database's document, or one in it. */
export function documentKey(name: string): string {
  const [database, inner] = partsOf(name);
  return inner === undefined ? DATABASES.keyOf(database) : within(database).keyOf(inner);
}
