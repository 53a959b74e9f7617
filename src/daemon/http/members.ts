import { KmsError } from '../../errors.js';
import { MAX_BATCH_ITEMS } from '../../limits.js';

/** A JSON Schema, as OpenAPI takes it. */
export type Schema = Readonly<Record<string, unknown>>;

/** One member of a JSON body, or of a query. */
export interface Member {
  name: string;
  required: boolean;
  schema: Schema;
  /** The value as the binary protocol has it. Throws INVALID_ARGUMENT that names the member and never its value. */
  read(value: unknown): unknown;
}

export const BASE64: Schema = { type: 'string', format: 'byte' };

function refuse(name: string, rule: string): KmsError {
  return new KmsError('INVALID_ARGUMENT', `${name}: ${rule}`);
}

/** Padded standard base64 and nothing else (RFC 4648, sections 3.2 to 3.5): whatever else decodes to the same bytes is refused. */
function bytesOf(name: string, value: unknown): Buffer {
  if (typeof value === 'string') {
    const bytes = Buffer.from(value, 'base64');
    // Node's decoder skips what it does not know; encoded again, only the canonical text gives itself.
    if (bytes.toString('base64') === value) return bytes;
    bytes.fill(0);
  }
  throw refuse(name, 'padded standard base64 was expected');
}

/** Looked at before any of them is decoded. */
function itemsOf(name: string, items: unknown[]): unknown[] {
  if (items.length > MAX_BATCH_ITEMS) throw new KmsError('TOO_LARGE', `${name}: more than ${MAX_BATCH_ITEMS} items`);
  return items;
}

function member(name: string, schema: Schema, read: (value: unknown) => unknown): Member {
  return { name, required: true, schema, read };
}

export function optional(of: Member): Member {
  return { ...of, required: false };
}

/** Text whose rule is checked with the operation's other arguments. */
export function text(name: string, schema: Schema = {}): Member {
  return member(name, { type: 'string', ...schema }, (value) => {
    if (typeof value !== 'string') throw refuse(name, 'a string was expected');
    return value;
  });
}

export function base64(name: string): Member {
  return member(name, BASE64, (value) => bytesOf(name, value));
}

export function base64List(name: string): Member {
  return member(name, { type: 'array', items: BASE64 }, (value) => {
    if (!Array.isArray(value)) throw refuse(name, 'an array was expected');
    return itemsOf(name, value).map((item) => bytesOf(name, item));
  });
}

/** The AAD of a batch: one for all, or one or null for each. */
export function batchAad(name: string): Member {
  const schema = { oneOf: [BASE64, { type: 'array', items: { ...BASE64, nullable: true } }] };
  return member(name, schema, (value) => {
    if (!Array.isArray(value)) return bytesOf(name, value);
    return itemsOf(name, value).map((item) => (item === null ? null : bytesOf(name, item)));
  });
}

/** A value of a JSON body whose rule is checked with the operation's other arguments. */
export function value(name: string, schema: Schema): Member {
  return member(name, schema, (given) => given);
}

/** A whole number in a query, where everything is text. */
export function count(name: string, least: number, most: number): Member {
  return member(name, { type: 'integer', minimum: least, maximum: most }, (value) => {
    const number = typeof value === 'string' && /^\d{1,9}$/.test(value) ? Number(value) : Number.NaN;
    if (!(number >= least && number <= most)) throw refuse(name, `a whole number from ${least} to ${most} was expected`);
    return number;
  });
}

/**
 * The values of `members`, in their order; null for one that is absent. Of `values` only own members count. Unknown ones are
 * an error where `strict`: a misspelt `aad` would otherwise encrypt without it.
 */
export function readMembers(members: readonly Member[], values: object, strict: boolean): unknown[] {
  if (strict && Object.keys(values).some((name) => !members.some((known) => known.name === name))) {
    throw new KmsError('INVALID_ARGUMENT', `only ${members.map(({ name }) => name).join(', ') || 'no members'} are known here`);
  }
  return members.map(({ name, required, read }) => {
    const value: unknown = Object.hasOwn(values, name) ? (values as Record<string, unknown>)[name] : undefined;
    if (value === undefined || (value === null && !required)) {
      if (required) throw refuse(name, 'is missing');
      return null;
    }
    return read(value);
  });
}
