import fc from 'fast-check';
import type { Json } from '../../dist/threads/json.js';

const KEYS = ['a', 'b', 'c', '', '0', '1', '*', 'a.b', '_enc', 'k', 'v', '__proto__', 'constructor', 'toString'];
/** Halves of a pair of surrogates among them, alone or not. */
const UNITS = ['\ud83d', '\ude00', '\u2028', '"', '\\', '\0', 'é', '.', 'x'];

const key = fc.oneof(fc.constantFrom(...KEYS), fc.string({ unit: fc.constantFrom(...UNITS), maxLength: 4 }));
const number = fc.oneof(
  fc.constantFrom(Number.MAX_VALUE, Number.MIN_VALUE, -Number.MAX_VALUE, 2 ** 53, -(2 ** 53) - 2, 1e21, 1e-7, 0.1 + 0.2),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
);
const leaf = fc.oneof(
  fc.constantFrom(null, true, false),
  number,
  fc.string({ unit: fc.constantFrom(...UNITS), maxLength: 6 }),
  fc.string(),
);

function objectOf(members: ReadonlyArray<readonly [string, Json]>): Json {
  const object: { [key: string]: Json } = {};
  for (const [name, value] of members)
    Object.defineProperty(object, name, { value, enumerable: true, configurable: true, writable: true });
  return object;
}

const base64 = fc.uint8Array({ minLength: 28, maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString('base64'));

/** Any plain JSON, with a taste for what might be taken for something of ours. */
export const body: fc.Arbitrary<Json> = fc.letrec<{ value: Json }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 5, depthSize: 'small' },
    leaf as fc.Arbitrary<Json>,
    fc.array(fc.tuple(key, tie('value')), { maxLength: 5 }).map(objectOf),
    fc.array(tie('value'), { maxLength: 4 }),
    base64.map((v) => ({ _enc: 'gcm', v })),
    fc.tuple(fc.constantFrom('k_1', 'k_x'), base64).map(([k, v]) => ({ _enc: 'gcm1', k, v })),
    tie('value').map((v) => ({ _enc: 'lit', v })),
    tie('value').map((inner) => objectOf([['_enc', inner]])),
    fc.nat({ max: 60 }).map((depth) => JSON.parse('['.repeat(depth + 1) + ']'.repeat(depth + 1)) as Json),
  ),
})).value;

const segment = fc.constantFrom('*', '*', 'a', 'b', '0', '1', '_enc', 'v', '__proto__', 'constructor');

export const policy: fc.Arbitrary<string[]> = fc.oneof(
  fc.constant<string[]>(['body']),
  fc.array(
    fc.array(segment, { maxLength: 4 }).map((segments) => ['body', ...segments].join('.')),
    { maxLength: 4 },
  ),
);

/** A body with a text before each of its texts that is found nowhere else, and these texts, each with its place. */
export interface Marked {
  body: Json;
  marks: Array<{ mark: string; path: string[] }>;
}

let last = 0;

export function marked(given: Json): Marked {
  const marks: Marked['marks'] = [];
  const walk = (value: Json, path: string[]): Json => {
    if (typeof value === 'string') {
      // Known words are left: a body shall still look like an envelope.
      if (['gcm', 'gcm1', 'lit'].includes(value) && path.at(-1) === '_enc') return value;
      last += 1;
      const mark = `secret-${last}-`;
      marks.push({ mark, path });
      return mark + value;
    }
    if (Array.isArray(value)) return value.map((element, i) => walk(element, [...path, String(i)]));
    if (value === null || typeof value !== 'object') return value;
    return objectOf(Object.entries(value).map(([name, member]) => [name, walk(member, [...path, name])]));
  };
  return { body: walk(given, []), marks };
}

function covers(policyPath: string, path: readonly string[]): boolean {
  const segments = policyPath.split('.').slice(1);
  return segments.length <= path.length && segments.every((name, i) => name === '*' || name === path[i]);
}

/** What must not be found in plain under a policy. */
export function covered({ marks }: Marked, fields: readonly string[]): string[] {
  return marks.filter(({ path }) => fields.some((field) => covers(field, path))).map(({ mark }) => mark);
}
