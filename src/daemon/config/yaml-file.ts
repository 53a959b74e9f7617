import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { resolve } from 'node:path';
import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument, visit, type YAMLMap } from 'yaml';
import { KmsError } from '../../errors.js';
import { MAX_CONFIG_BYTES } from '../../limits.js';

/** One key of the file, named with its sections: `listen.socket`. */
export interface Entry {
  path: string;
  line: number;
  /** Its value's text or texts; null for none at all, undefined for a mapping or a list of something else than text. */
  given: string | string[] | null | undefined;
}

export interface ConfigFile {
  /** As it was named. */
  name: string;
  mode: number;
  entries: Entry[];
}

function refuse(place: string, rule: string): never {
  throw new KmsError('INVALID_ARGUMENT', `${place}: ${rule}`);
}

/** Reads and parses the file that `source` named. Throws one line, which never repeats what a value is. */
export function readConfigFile(name: string, source: string): ConfigFile {
  const { text, mode } = readText(name, source);
  return { name, mode, entries: parseEntries(name, text) };
}

/** Mode and content are those of one descriptor, so that nothing can be put in between. */
function readText(name: string, source: string): { text: string; mode: number } {
  let fd: number;
  try {
    // O_NONBLOCK: what somebody put there instead of a file must not hang the start.
    fd = openSync(resolve(name), constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (cause) {
    throw unreadable(name, source, cause);
  }
  try {
    const status = fstatSync(fd);
    if (!status.isFile()) refuse(source, `${name} is not a regular file`);
    const own = process.geteuid?.() ?? status.uid;
    if (status.uid !== own && status.uid !== 0)
      refuse(source, `${name} belongs to uid ${status.uid}: chown ${own} ${resolve(name)}`);
    const mend = `chmod go-w ${resolve(name)}`;
    if ((status.mode & 0o022) !== 0) refuse(source, `${name} may be written by others: ${mend}`);
    return { text: decode(readAll(fd, name), name), mode: status.mode };
  } catch (cause) {
    throw cause instanceof KmsError ? cause : unreadable(name, source, cause);
  } finally {
    closeSync(fd);
  }
}

function unreadable(name: string, source: string, cause: unknown): KmsError {
  const { code = 'failure' } = cause as NodeJS.ErrnoException;
  return new KmsError('INVALID_ARGUMENT', `${source}: ${name} cannot be read: ${code}`, { cause });
}

function readAll(fd: number, name: string): Buffer {
  const bytes = Buffer.alloc(MAX_CONFIG_BYTES + 1);
  let length = 0;
  for (;;) {
    const got = readSync(fd, bytes, length, bytes.length - length, null);
    length += got;
    if (length > MAX_CONFIG_BYTES) refuse(name, `is longer than ${MAX_CONFIG_BYTES} bytes`);
    if (got === 0) return bytes.subarray(0, length);
  }
}

function decode(bytes: Buffer, name: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return refuse(name, 'is not UTF-8 text');
  }
}

/** Data and nothing else: under the failsafe schema every scalar is its own text, so that a key of digits stays one. */
function parseEntries(name: string, text: string): Entry[] {
  const lines = new LineCounter();
  const lineAt = (offset: number) => lines.linePos(offset).line;
  try {
    const document = parseDocument(text, {
      schema: 'failsafe',
      // Ours names both lines.
      uniqueKeys: false,
      // The library's own words quote the text, which may be a secret.
      prettyErrors: false,
      lineCounter: lines,
    });
    const [error] = document.errors;
    if (error !== undefined) refuse(`${name}:${lineAt(error.pos[0])}`, `is not valid YAML (${error.code})`);
    const { yaml, tags } = document.directives;
    if (yaml.explicit || Object.keys(tags).length > 1) refuse(name, 'YAML directives are not read');
    refuseIndirection(name, document.contents, lineAt);
    if (document.contents === null || isNothing(document.contents)) return [];
    if (!isMap(document.contents)) return refuse(name, 'must be a mapping of keys to values');
    return entriesOf(document.contents, '', name, lineAt);
  } catch (cause) {
    if (cause instanceof KmsError) throw cause;
    // Nesting without end exhausts the parser's stack.
    throw new KmsError('INVALID_ARGUMENT', `${name}: is not YAML that can be read`, { cause });
  }
}

/** What a value is must stand where the value is: no tag changes it, no anchor brings it from elsewhere. */
function refuseIndirection(name: string, root: unknown, lineAt: (offset: number) => number): void {
  visit(root as Node, {
    Node(_, node) {
      const place = `${name}:${lineAt(node.range?.[0] ?? 0)}`;
      if (isAlias(node) || node.anchor !== undefined) refuse(place, 'YAML anchors and aliases are not read');
      if (node.tag !== undefined) refuse(place, 'YAML tags are not read');
    },
  });
}

function isNothing(node: unknown): boolean {
  return node === null || (isScalar(node) && node.type === 'PLAIN' && /^(~|null|)$/i.test(String(node.value)));
}

function entriesOf(map: YAMLMap, prefix: string, name: string, lineAt: (offset: number) => number): Entry[] {
  const seen = new Map<string, number>();
  return map.items.flatMap(({ key, value }) => {
    const line = lineAt((key as Node | null)?.range?.[0] ?? map.range?.[0] ?? 0);
    if (!isScalar(key)) return refuse(`${name}:${line}`, 'a key must be plain text');
    const path = `${prefix}${key.value}`;
    const before = seen.get(path);
    if (before !== undefined) refuse(`${name}:${line}`, `${printable(path)}: is given already in line ${before}`);
    seen.set(path, line);
    if (isMap(value) && value.items.length > 0) return entriesOf(value, `${path}.`, name, lineAt);
    return [{ path, line, given: givenBy(value) }];
  });
}

function givenBy(value: unknown): Entry['given'] {
  if (isNothing(value) || (isMap(value) && value.items.length === 0)) return null;
  if (isScalar(value)) return String(value.value);
  if (isSeq(value) && value.items.every(isScalar)) return value.items.map((item) => String(item.value));
  return undefined;
}

/** A key's name for messages. A value that stands where a key belongs may be a secret. */
export function printable(path: string): string {
  return path.split('.').every((part) => /^\w[\w-]{0,39}$/.test(part)) ? path : 'a key';
}
