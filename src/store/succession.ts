import { KmsError } from '../errors.js';
import type { KeyMeta } from './key-store.js';

/** Throws CONFLICT unless a record of `version` may take the place of `current`: exactly one write on, and never after the end. */
export function refuseUnlessNext(current: KeyMeta | undefined, version: number): void {
  if (current === undefined) throw new KmsError('CONFLICT', 'there is no record to replace');
  if (current.state === 'destroyed') throw new KmsError('CONFLICT', 'a destroyed key is never written again');
  if (current.version !== version - 1) throw new KmsError('CONFLICT', `the record has version ${current.version}`);
}
