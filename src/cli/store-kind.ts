import { InvalidArgumentError, Option } from 'commander';
import { STORE_KINDS, type StoreKind } from '../store/key-store.js';

/** `--store`, for a data directory that is to be made. */
export function storeOption(description: string): Option {
  return new Option('--store <kind>', description).argParser(storeKind);
}

/** The same where it may be a database, too. */
export function anyStoreOption(description: string): Option {
  return new Option('--store <kind>', description).argParser(anyKind);
}

export function anyKind(text: string): StoreKind | 'postgres' {
  return text === 'postgres' ? text : storeKind(text);
}

/** Of a data directory. */
function storeKind(text: string): StoreKind {
  const kind = STORE_KINDS.find((each) => each === text);
  if (kind === undefined) throw new InvalidArgumentError(`It must be ${STORE_KINDS.join(' or ')}.`);
  return kind;
}
