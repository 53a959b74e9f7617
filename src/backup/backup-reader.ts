import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { ERROR_TABLE, KmsError } from '../errors.js';
import { errnoOf, type FileSystem } from '../store/file-system.js';
import {
  DIGEST_BYTES,
  damaged,
  ENTRIES,
  ENTRY_HEADER_BYTES,
  type EntryName,
  isRepeated,
  MAGIC,
  VERSION_BYTES,
  type Version,
} from './format.js';

const READ_BYTES = 256 * 1024;
const NAMES = Object.keys(ENTRIES) as EntryName[];

export interface Entry {
  name: EntryName;
  bytes: Uint8Array;
  /** Where it stands in the file. */
  at: number;
  /** Of the seal: SHA-256 of everything before it. */
  digest?: Uint8Array;
  /** Of the backup. */
  version: Version;
}

/** A file from front to back, a bounded piece of it in memory. */
class Pieces {
  readonly #system: FileSystem;
  readonly #fd: number;
  #bytes: Uint8Array = new Uint8Array(0);
  #from = 0;

  constructor(system: FileSystem, fd: number) {
    this.#system = system;
    this.#fd = fd;
  }

  get at(): number {
    return this.#from;
  }

  /** The next `length` bytes; fewer only at the end of the file. They hold until the next call. */
  async take(length: number): Promise<Uint8Array> {
    while (this.#bytes.length < length) {
      const more = new Uint8Array(Math.max(READ_BYTES, length));
      const got = await this.#system.read(this.#fd, more, 0);
      if (got === 0) break;
      this.#bytes = this.#bytes.length === 0 ? more.subarray(0, got) : Buffer.concat([this.#bytes, more.subarray(0, got)]);
    }
    const taken = this.#bytes.subarray(0, length);
    this.#bytes = this.#bytes.subarray(taken.length);
    this.#from += taken.length;
    return taken;
  }
}

async function opened(system: FileSystem, path: string): Promise<number> {
  try {
    // O_NONBLOCK: a pipe in its place must not hang us.
    const fd = await system.open(path, constants.O_RDONLY | constants.O_NONBLOCK, 0);
    if ((await system.fstat(fd)).isFile()) return fd;
    await system.close(fd);
  } catch (cause) {
    throw new KmsError('INVALID_ARGUMENT', `${path} cannot be read: ${errnoOf(cause) || 'failure'}`, { cause });
  }
  throw new KmsError('INVALID_ARGUMENT', `${path} is not a regular file`);
}

async function checkBeginning(path: string, pieces: Pieces): Promise<{ beginning: Uint8Array; version: Version }> {
  const beginning = await pieces.take(MAGIC.length + 1);
  if (!MAGIC.equals(beginning.subarray(0, MAGIC.length))) throw new KmsError('INVALID_ARGUMENT', `${path} is no backup`);
  const byte = beginning[MAGIC.length];
  if (byte === undefined) throw damaged(path, 'it ends after its first bytes');
  const version = ([1, 2] as const).find((one) => VERSION_BYTES[one] === byte);
  if (version === undefined) throw new KmsError('UNSUPPORTED', `${path} is a backup of another version than this program knows`);
  return { beginning, version };
}

/**
 * The entries of a backup in their order, which is checked, and nothing after the seal. Whether the digest is the seal's is left
 * to the caller. Throws INVALID_ARGUMENT for what is no backup or has been cut, UNSUPPORTED for one of a newer version.
 */
export async function* readEntries(system: FileSystem, path: string): AsyncGenerator<Entry> {
  const fd = await opened(system, path);
  try {
    const pieces = new Pieces(system, fd);
    const { beginning, version } = await checkBeginning(path, pieces);
    const hash = createHash('sha256').update(beginning);
    let place = 0;
    for (;;) {
      const at = pieces.at;
      const header = Buffer.from(await pieces.take(ENTRY_HEADER_BYTES));
      if (header.length < ENTRY_HEADER_BYTES) throw damaged(path, `it ends at byte ${pieces.at}, before its seal`);
      const name = NAMES.find((one) => ENTRIES[one].type === header[0]);
      const length = header.readUInt32BE(1);
      if (name === undefined || length > ENTRIES[name].maxBytes || (name === 'document' && version === 1))
        throw damaged(path, `byte ${at} begins nothing that it may hold`);
      if (ENTRIES[name].place < place) throw damaged(path, `the ${name} at byte ${at} is out of place`);
      place = ENTRIES[name].place + (isRepeated(name) ? 0 : 1);
      const bytes = await pieces.take(length);
      if (bytes.length < length) throw damaged(path, `it ends at byte ${pieces.at}, within the ${name} that begins at ${at}`);
      if (name === 'seal') {
        if (length !== ENTRIES.seal.maxBytes) throw damaged(path, 'its seal has the wrong length');
        if ((await pieces.take(1)).length > 0) throw damaged(path, 'something follows its seal');
        yield { name, bytes, at, version, digest: hash.digest() };
        return;
      }
      hash.update(header).update(bytes);
      yield { name, bytes, at, version };
    }
  } catch (error) {
    if (error instanceof KmsError || errnoOf(error) === '') throw error;
    throw new KmsError('INVALID_ARGUMENT', `${path} cannot be read: ${errnoOf(error)}`, { cause: error });
  } finally {
    await system.close(fd);
  }
}

/** Why the strict reader of a document refuses it, without the words that every such error begins with. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof KmsError)) return String(error);
  return error.message.replace(`${ERROR_TABLE[error.code].message}: `, '');
}

export function sealParts(seal: Uint8Array): { digest: Uint8Array; mac: Uint8Array } {
  return { digest: seal.subarray(0, DIGEST_BYTES), mac: seal.subarray(DIGEST_BYTES) };
}
