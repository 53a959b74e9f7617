import { KmsError } from '../errors.js';

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** Deeper than this a hostile body would overflow the stack of whoever walks it. */
const MAX_DEPTH = 128;

/**
 * `value` as what reading its JSON text back gives, its own copy. Throws INVALID_ARGUMENT for what JSON would not give back as it
 * is: undefined, functions, NaN, cycles, what has a `toJSON`, and more than 128 levels.
 */
export function plainJson(value: unknown, depth = 0): Json {
  if (depth > MAX_DEPTH) throw new KmsError('INVALID_ARGUMENT', `a body of more than ${MAX_DEPTH} levels`);
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return value;
  if (typeof value === 'number' && Number.isFinite(value)) return Object.is(value, -0) ? 0 : value;
  if (Array.isArray(value)) return Array.from(value, (element) => plainJson(element, depth + 1));
  if (!isObject(value) || typeof value['toJSON'] === 'function') {
    throw new KmsError('INVALID_ARGUMENT', 'a body that is not plain JSON');
  }
  const copy: { [key: string]: Json } = {};
  for (const [key, member] of Object.entries(value)) setMember(copy, key, plainJson(member, depth + 1));
  return copy;
}

/** The original takes bodies of 10,000 levels. */
const MAX_FOREIGN_DEPTH = 1_000;

/** Throws an Error for what the original took, and would overflow the stack of whoever walks it. */
export function checkDepth(value: unknown, depth = 0): void {
  if (depth > MAX_FOREIGN_DEPTH) throw new Error(`it has more than ${MAX_FOREIGN_DEPTH} levels`);
  if (value === null || typeof value !== 'object') return;
  for (const member of Object.values(value)) checkDepth(member, depth + 1);
}

/** An object with members; not an array, nor a number that keeps its digits (lossless-json). */
export function isObject(value: unknown): value is { [key: string]: Json } {
  if (value === null || typeof value !== 'object') return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** The steps from a value to those in it. */
export function stepsInto(value: Json): Array<string | number> {
  if (Array.isArray(value)) return [...value.keys()];
  return isObject(value) ? Object.keys(value) : [];
}

/** Sets an own member whatever its name: assigning to `__proto__` would set something else. */
export function setMember(target: { [key: string]: Json }, key: string, value: Json): void {
  if (key === '__proto__') Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true });
  else target[key] = value;
}

/** The value at a place, undefined if there is none. */
export function placeIn(body: Json, path: ReadonlyArray<string | number>): Json | undefined {
  let value = body;
  for (const step of path) {
    if (value === null || typeof value !== 'object' || !Object.hasOwn(value, step)) return undefined;
    value = valueAt(value, [step]);
  }
  return value;
}

/** The value at a place that is known to be there. */
export function valueAt(body: Json, path: ReadonlyArray<string | number>): Json {
  let value = body;
  for (const step of path) value = (value as Record<string | number, Json>)[step] as Json;
  return value;
}

/** `body` with another value at a place that is there. `body` itself is changed, unless the place is all of it. */
export function replaceAt(body: Json, path: ReadonlyArray<string | number>, value: Json): Json {
  const last = path.at(-1);
  if (last === undefined) return value;
  const parent = valueAt(body, path.slice(0, -1));
  if (Array.isArray(parent)) parent[last as number] = value;
  else setMember(parent as { [key: string]: Json }, last as string, value);
  return body;
}
