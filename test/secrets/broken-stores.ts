import { readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { copyDirectory } from '../store/data-dir.js';

type Json = Record<string, unknown>;

function change(path: string, edit: (document: Json) => void): void {
  const document = JSON.parse(readFileSync(path, 'utf8')) as Json;
  edit(document);
  writeFileSync(path, JSON.stringify(document));
}

function other(base64: unknown): string {
  const bytes = Buffer.from(String(base64), 'base64');
  bytes[20] = bytes[20]! ^ 1;
  return bytes.toString('base64');
}

const kek = (document: Json) => (document['keks'] as Json[])[0]!;
const slot = (document: Json) => (document['slots'] as Json[])[0]!;

/** Ways to damage a keyring; each leaves as much of its content in it as it can. */
export const KEYRING_DAMAGES: Record<string, (path: string) => void> = {
  cut: (path) => truncateSync(path, readFileSync(path).length - 30),
  'not JSON': (path) => writeFileSync(path, readFileSync(path, 'utf8').replace('"keks"', 'keks')),
  'not base64': (path) => change(path, (document) => (kek(document)['wrapped'] = `${kek(document)['wrapped']}!`)),
  'another slot': (path) => change(path, (document) => (slot(document)['root'] = other(slot(document)['root']))),
  'an unknown member': (path) =>
    change(path, (document) => (document[String(kek(document)['wrapped'])] = slot(document)['root'])),
  'another MAC': (path) => change(path, (document) => (document['mac'] = other(document['mac']))),
  'a newer format': (path) => change(path, (document) => (document['format'] = 3)),
};

/** Ways to damage a record. */
export const RECORD_DAMAGES: Record<string, (path: string) => void> = {
  cut: (path) => truncateSync(path, readFileSync(path).length - 30),
  'not JSON': (path) => writeFileSync(path, readFileSync(path, 'utf8').replace('"wrapped"', 'wrapped')),
  'another wrapped key': (path) => change(path, (document) => (document['wrapped'] = other(document['wrapped']))),
  'another thread': (path) => change(path, (document) => (document['thread_id'] = 'elsewhere')),
  'an unknown member': (path) => change(path, (document) => (document[String(document['wrapped'])] = document['wrapped'])),
  'a state of its own': (path) => change(path, (document) => (document['state'] = document['wrapped'])),
  empty: (path) => truncateSync(path, 0),
};

/** A copy of the store with its keyring damaged. */
export function withKeyring(dataDir: string, copy: string, damage: (path: string) => void): string {
  rmSync(copy, { recursive: true, force: true });
  copyDirectory(dataDir, copy);
  damage(join(copy, 'keyring.json'));
  return copy;
}

/** A copy of the store with one record for each damage; returns their key ids. */
export function withRecords(dataDir: string, copy: string): string[] {
  copyDirectory(dataDir, copy);
  const folder = join(copy, 'kms-deks');
  const damages = Object.values(RECORD_DAMAGES);
  const files = readdirSync(folder).filter((file) => file.endsWith('.json'));
  if (files.length < damages.length) throw new Error('too few records for all damages');
  return damages.map((damage, index) => {
    damage(join(folder, files[index]!));
    return files[index]!.replace(/\.json$/, '');
  });
}
