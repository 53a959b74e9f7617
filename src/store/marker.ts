import { lstatSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { KmsError } from '../errors.js';
import { DurableDirectory } from './durable-directory.js';
import { errnoOf, type FileSystem } from './file-system.js';
import { STORE_KINDS, type StoreKind } from './key-store.js';
import { Turnstile } from './turnstile.js';
import { WriteLatch } from './write-latch.js';

/** Says which store of a data directory is the live one; only a migration writes it. */
export const MARKER = 'store.json';

/** Where the keys of a data directory are; of `postgres` the directory holds what is one daemon's alone. */
export type LivePlace = StoreKind | 'postgres';
const PLACES: readonly LivePlace[] = [...STORE_KINDS, 'postgres'];

function textOf(kind: LivePlace): string {
  return `{"format":1,"store":"${kind}"}\n`;
}

/** Undefined where there is none. */
export function markedKind(dataDir: string): LivePlace | undefined {
  const path = join(dataDir, MARKER);
  let text: string;
  try {
    if (!lstatSync(path).isFile()) throw new KmsError('STORE_UNAVAILABLE', `${path} is not a regular file`);
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT') return undefined;
    if (cause instanceof KmsError) throw cause;
    throw new KmsError('STORE_UNAVAILABLE', `${path} cannot be read: ${errnoOf(cause) || 'failure'}`, { cause });
  }
  const kind = PLACES.find((each) => text === textOf(each));
  if (kind === undefined) throw new KmsError('STORE_UNAVAILABLE', `${path} names no kind of store that this version knows`);
  return kind;
}

/** Durable when it resolves; a crash leaves the one before or this one. The caller holds the lock of the data directory. */
export async function mark(system: FileSystem, dataDir: string, kind: LivePlace): Promise<void> {
  const directory = await DurableDirectory.open(dataDir, system, new WriteLatch(), new Turnstile(1));
  try {
    directory.replaceSync(await directory.stage(MARKER, Buffer.from(textOf(kind))), MARKER);
    await directory.sync();
  } finally {
    await directory.close();
  }
}
