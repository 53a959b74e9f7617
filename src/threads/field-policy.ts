import { KmsError } from '../errors.js';
import { MAX_SEALED_PLACES, MAX_STORED_VALUE_BYTES } from '../limits.js';
import { isObject, type Json, stepsInto, valueAt } from './json.js';

/** A place in a body: keys of objects and indexes of arrays. Empty for the whole body. */
export type Path = ReadonlyArray<string | number>;

const MAX_PATHS = 64;
const MAX_SEGMENTS = 32;
const MAX_PATH_LENGTH = 512;
const INDEX = /^(0|[1-9]\d{0,9})$/;

function segmentsOf(path: unknown): string[] {
  if (typeof path !== 'string' || path.length > MAX_PATH_LENGTH) throw new KmsError('INVALID_ARGUMENT', 'a field path');
  const [root, ...segments] = path.split('.');
  if (root !== 'body' || segments.length > MAX_SEGMENTS || segments.includes('')) {
    throw new KmsError('INVALID_ARGUMENT', `field path ${JSON.stringify(path)}: body, or body.name.*.0 and the like`);
  }
  return segments;
}

/**
 * Which parts of a body are encrypted: dotted paths that begin with `body`; `*` stands for every key or element, a number for an
 * index of an array, or for a key. A path that a body does not have asks for nothing.
 */
export class FieldPolicy {
  readonly paths: readonly string[];
  readonly #segments: ReadonlyArray<readonly string[]>;

  /** Throws INVALID_ARGUMENT for a path that is none. */
  constructor(paths: readonly string[]) {
    if (!Array.isArray(paths) || paths.length > MAX_PATHS) {
      throw new KmsError('INVALID_ARGUMENT', `a field policy is an array of up to ${MAX_PATHS} paths`);
    }
    this.#segments = paths.map(segmentsOf);
    this.paths = [...new Set(paths)];
  }

  /**
   * The places of `body` to encrypt, and `more`, which it has, in order. None lies within another: where they overlap, the
   * outer one covers both. Throws TOO_LARGE for more than a message can have: each takes a hundred times the memory of what may
   * stand there, and the longest body holds millions; and its name, which may be as long as the body, is made for each.
   */
  select(body: Json, more: readonly Path[] = []): Path[] {
    const root = new Branch();
    for (const segments of this.#segments) mark(root, body, segments, [], { left: MAX_SEALED_PLACES });
    for (const path of more) choose(root, path);
    const found: Path[] = [];
    collect(root, [], found);
    let bytes = 0;
    for (const path of found) for (const step of path) bytes += String(step).length;
    if (bytes > MAX_STORED_VALUE_BYTES) throw new KmsError('TOO_LARGE', 'a body whose values to encrypt have too long names');
    return found;
  }
}

class Branch {
  isChosen = false;
  readonly below = new Map<string | number, Branch>();

  at(step: string | number): Branch {
    let branch = this.below.get(step);
    if (branch === undefined) {
      branch = new Branch();
      this.below.set(step, branch);
    }
    return branch;
  }
}

function stepsOf(value: Json, segment: string): Array<string | number> {
  if (segment === '*') return stepsInto(value);
  if (Array.isArray(value)) return INDEX.test(segment) && Number(segment) < value.length ? [Number(segment)] : [];
  return isObject(value) && Object.hasOwn(value, segment) ? [segment] : [];
}

/** `path` is the way to `value`. Branches are made only to what is chosen: on other ways a body may hold millions of values. */
function mark(
  root: Branch,
  value: Json,
  segments: readonly string[],
  path: Array<string | number>,
  places: { left: number },
): void {
  const segment = segments[path.length];
  if (segment === undefined) {
    places.left -= 1;
    if (places.left < 0) throw new KmsError('TOO_LARGE', `a body with more than ${MAX_SEALED_PLACES} values to encrypt`);
    choose(root, path);
    return;
  }
  for (const step of stepsOf(value, segment)) {
    path.push(step);
    mark(root, valueAt(value, [step]), segments, path, places);
    path.pop();
  }
}

function choose(branch: Branch, path: Path): void {
  let at = branch;
  for (const step of path) at = at.at(step);
  at.isChosen = true;
}

function collect(branch: Branch, path: Path, found: Path[]): void {
  if (branch.isChosen) {
    found.push(path);
    return;
  }
  for (const [step, below] of branch.below) collect(below, [...path, step], found);
}
