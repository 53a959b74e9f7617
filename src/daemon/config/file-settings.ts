import { resolve } from 'node:path';
import { KmsError } from '../../errors.js';
import { NAMES, type Name, placeOf } from './schema.js';
import type { Setting, Warning } from './setting.js';
import { type ConfigFile, type Entry, printable } from './yaml-file.js';

/** Keys of the server that shares the file: they say what it encrypts, which is nothing to us. */
const OF_THE_SERVER = ['security.encryption.use', 'security.encryption.fields'];

/** Every name that a key may have in the file. */
function namesInFile(name: Name): string[] {
  const own = placeOf(name).yaml ?? [];
  return [...own, ...own.filter((path) => !path.includes('.')).map((path) => `security.kms.${path}`)];
}

const KNOWN = new Map(NAMES.flatMap((name) => namesInFile(name).map((path) => [path, name] as const)));
const SECTIONS = new Set([...KNOWN.keys()].filter((path) => /^(?!security\.)\w+\./.test(path)).map(sectionOf));

function sectionOf(path: string): string {
  return path.split('.', 1)[0] as string;
}

export interface FileSettings {
  settings: Map<Name, Setting>;
  warnings: Warning[];
}

/** What the file sets. Throws one line for a value that cannot be one, and for unknown keys of a file in our own style. */
export function settingsOfFile(file: ConfigFile): FileSettings {
  const settings = new Map<Name, Setting>();
  const warnings: Warning[] = [];
  const isOurs = file.entries.some(({ path }) => SECTIONS.has(sectionOf(path)));
  for (const entry of file.entries) {
    const name = KNOWN.get(entry.path);
    if (name !== undefined) take(settings, name, entry, file);
    else if (!(SECTIONS.has(entry.path) && entry.given === null)) warnings.push(unknown(entry, file, isOurs));
  }
  return { settings, warnings };
}

function take(settings: Map<Name, Setting>, name: Name, { path, line, given }: Entry, file: ConfigFile): void {
  const at = `${file.name}:${line}: ${path}`;
  if (given === null) return;
  if (given === undefined) throw new KmsError('INVALID_ARGUMENT', `${at}: must be a value, or a list of values`);
  const before = settings.get(name);
  if (before !== undefined) throw new KmsError('INVALID_ARGUMENT', `${at}: is given already: ${before.source}`);
  if (placeOf(name).secret && (file.mode & 0o044) !== 0) {
    throw new KmsError('INVALID_ARGUMENT', `${at}: the file may be read by others: chmod 600 ${resolve(file.name)}`);
  }
  settings.set(name, { source: `${file.name}:${line} ${path}`, at, given, from: 'file' });
}

/** In our sections a typing error must not be a setting that is silently missing; the older style shares its file with others. */
function unknown({ path, line }: Entry, file: ConfigFile, isOurs: boolean): Warning {
  const name = printable(path);
  const at = `${file.name}:${line}: ${name}`;
  const source = `${file.name}:${line} ${name}`;
  const above = [...KNOWN.keys()].find((known) => path.startsWith(`${known}.`));
  if (above !== undefined)
    throw new KmsError('INVALID_ARGUMENT', `${file.name}:${line}: ${above}: must be a value, not a mapping`);
  if (OF_THE_SERVER.some((key) => path === key || path.startsWith(`${key}.`))) {
    return { event: 'key_of_the_server', source, advice: 'is the key of the server and was ignored' };
  }
  if (SECTIONS.has(path)) throw new KmsError('INVALID_ARGUMENT', `${at}: must be a section with keys of its own`);
  if (isOurs && sectionOf(path) !== 'security')
    throw new KmsError('INVALID_ARGUMENT', `${at}: is not a key of the configuration`);
  return { event: 'unknown_key', source, advice: 'is not a key of the configuration and was ignored' };
}
