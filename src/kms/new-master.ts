import { resolve } from 'node:path';
import { KmsError } from '../errors.js';
import type { Handle, MasterSource, Vault } from '../vault.js';

const HEX_KEY = /^[0-9a-fA-F]{64}$/;

/** A master key that shall open a store which another one has opened: from a file, a descriptor, or as text for compatibility. */
export type NewMaster = NamedMaster | { fd: number };

interface NamedMaster {
  name: string;
  value: string;
  isFile: boolean;
}

/** The one of the two that is given, checked; undefined if neither is. */
export function newMasterOf(names: { hex: string; file: string }, hex: unknown, file: unknown): NamedMaster | undefined {
  if (hex !== undefined && file !== undefined)
    throw new KmsError('INVALID_ARGUMENT', `give ${names.hex} or ${names.file}, not both`);
  if (hex !== undefined) {
    if (typeof hex !== 'string' || !HEX_KEY.test(hex))
      throw new KmsError('INVALID_ARGUMENT', `${names.hex} must be 64 hex digits`);
    return { name: names.hex, value: hex, isFile: false };
  }
  if (file === undefined) return undefined;
  if (typeof file !== 'string' || file === '' || file.includes('\0')) {
    throw new KmsError('INVALID_ARGUMENT', `${names.file} must be a path`);
  }
  return { name: names.file, value: resolve(file), isFile: true };
}

/** Into the vault; a key given as text passes through JavaScript, and what can be wiped of it is. */
export function readNewMaster(vault: Vault, master: NewMaster, own: MasterSource): Handle {
  if ('fd' in master) return vault.readMaster({ kind: 'descriptor', fd: master.fd });
  if (!master.isFile) return vault.readMaster({ kind: 'bytes', bytes: Buffer.from(master.value, 'hex') });
  const mayBeGroupReadable = own.kind === 'file' && own.mayBeGroupReadable;
  return vault.readMaster({ kind: 'file', path: master.value, mayBeGroupReadable });
}
