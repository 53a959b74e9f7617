import type { Stats } from 'node:fs';
import { join } from 'node:path';
import { MAX_KEYRING_BYTES } from '../limits.js';
import { binding } from '../native.js';
import {
  FILE_MODE,
  giveLock,
  type Owner,
  ownerToKeep,
  prepareDirectory,
  refuseWider,
  removeLeftovers,
  syncWayTo,
} from './data-directory.js';
import { keyringJson } from './document-json.js';
import { readable, strictly } from './documents.js';
import type { DurableDirectory } from './durable-directory.js';
import { errnoOf, type FileSystem } from './file-system.js';
import type { KeyringDocument } from './key-store.js';

export const KEYRING = 'keyring.json';
const LOCK = 'lock';

/**
 * Makes the data directory if it is not there, and readies it for a store whose keyring lies in it; returns whom root has to leave
 * its files to. The caller holds its lock. Throws PERMISSION_DENIED for a directory or keyring that others can reach.
 */
export async function prepareKeyringDirectory(system: FileSystem, dataDir: string): Promise<Owner | undefined> {
  await prepareDirectory(system, dataDir);
  const owner = ownerToKeep(system, await system.stat(dataDir));
  if (owner !== undefined) await giveLock(system, join(dataDir, LOCK), owner);
  await removeLeftovers(system, dataDir);
  // Once there is a keyring the way to it was durable before it was written.
  if (!(await hasOwnKeyring(system, join(dataDir, KEYRING)))) await syncWayTo(system, dataDir);
  return owner;
}

/** Throws for a keyring that others can reach. */
async function hasOwnKeyring(system: FileSystem, path: string): Promise<boolean> {
  try {
    const stats = await system.lstat(path);
    // A link's own mode says nothing; reading it is refused in any case.
    if (!stats.isSymbolicLink()) refuseWider(system, path, stats, FILE_MODE);
    return true;
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
    return false;
  }
}

/** The keyring as a JSON file in the data directory, whatever keeps the records: what opens a store is found and read in one way. */
export class KeyringFile {
  readonly #system: FileSystem;
  readonly #top: DurableDirectory;
  #turn: Promise<void> = Promise.resolve();

  constructor(system: FileSystem, top: DurableDirectory) {
    this.#system = system;
    this.#top = top;
  }

  async read(): Promise<KeyringDocument | undefined> {
    const bytes = await this.bytes();
    return bytes && strictly(binding.parseKeyring, bytes);
  }

  /** The file as it is. */
  bytes(): Promise<Uint8Array | undefined> {
    const path = join(this.#top.path, KEYRING);
    const inspect = (stats: Stats) => refuseWider(this.#system, path, stats, FILE_MODE);
    return this.#top.read(KEYRING, MAX_KEYRING_BYTES, inspect);
  }

  /** What replaces it by the document as it is now: as a whole, and durable when it resolves. */
  replacement(document: KeyringDocument): () => Promise<void> {
    const bytes = readable(binding.parseKeyring, keyringJson(document));
    return async () => {
      // One after the other: of two keyrings the one given last must be the one that stays.
      const turn = this.#turn.then(async () => {
        this.#top.replaceSync(await this.#top.stage(KEYRING, bytes), KEYRING);
        await this.#top.sync();
      });
      this.#turn = turn.catch(() => {});
      await turn;
    };
  }

  /** Resolves when the replacements that were begun have ended. */
  idle(): Promise<void> {
    return this.#turn;
  }
}
