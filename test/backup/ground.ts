import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { type Backup, type BackupOptions, createBackup } from '../../dist/backup/create.js';
import type { RestoreOptions } from '../../dist/backup/restore.js';
import { auditOf, type EmbeddedKms, type EmbeddedOptions } from '../../dist/create.js';
import { newPlace, openAt, type Place } from '../provider/subjects.js';

export const MESSAGE = Buffer.from('what a backup is for');

/** A store with a key of each state and the default one, messages under them, and what was opened. */
export interface Filled {
  place: Place;
  kms: EmbeddedKms;
  active: string;
  disabled: string;
  destroyed: string;
  ciphertext: Uint8Array;
  sealed: Uint8Array;
}

export async function filled(t: ExecutionContext, options: EmbeddedOptions = {}): Promise<Filled> {
  const place = newPlace(t);
  const kms = await openAt(t, place, options);
  const [active, disabled, destroyed] = await Promise.all(
    ['a', 'b', 'c'].map(async (thread) => (await kms.createDekForThread(`backup/${thread}`)).keyId),
  );
  const { ciphertext } = await kms.encryptWithDek(active!, MESSAGE);
  const sealed = await kms.encrypt(MESSAGE);
  await kms.disableKey(disabled!);
  await kms.disableKey(destroyed!);
  await kms.destroyKey(destroyed!);
  return { place, kms, active: active!, disabled: disabled!, destroyed: destroyed!, ciphertext, sealed };
}

export async function backupOf(kms: EmbeddedKms, path: string, options: Partial<BackupOptions> = {}): Promise<Backup> {
  const snapshot = kms.snapshot();
  try {
    return await createBackup(snapshot, { path, dataDir: kms.dataDir, actor: 'uid:0', ...options });
  } finally {
    snapshot.release();
  }
}

export function pathIn({ directory }: Place, name = 'store.backup'): string {
  return join(directory, name);
}

export const master = ({ masterKeyFile }: Place) => ({ kind: 'file' as const, path: masterKeyFile, mayBeGroupReadable: false });

/** An entry of a backup, by docs/FORMATS.md and nothing of the product. */
export interface RawEntry {
  type: string;
  bytes: Buffer;
}

export function entriesOf(path: string): RawEntry[] {
  const file = readFileSync(path);
  const entries: RawEntry[] = [];
  for (let at = 5; at < file.length; ) {
    const length = file.readUInt32BE(at + 1);
    entries.push({ type: String.fromCharCode(file[at]!), bytes: file.subarray(at + 5, at + 5 + length) });
    at += 5 + length;
  }
  return entries;
}

export function bytesOf(entries: readonly RawEntry[], version = '1'): Buffer {
  const parts = entries.flatMap(({ type, bytes }) => {
    const header = Buffer.alloc(5);
    header.write(type, 0, 'latin1');
    header.writeUInt32BE(bytes.length, 1);
    return [header, bytes];
  });
  return Buffer.concat([Buffer.from(`\x03pkb${version}`, 'latin1'), ...parts]);
}

/** A copy with its entries changed by `edit`. */
export function edited(from: string, to: string, edit: (entries: RawEntry[]) => RawEntry[]): string {
  writeFileSync(to, bytesOf(edit(entriesOf(from))));
  return to;
}

/** What a restore wants besides what it is of. */
export const RESTORING: Pick<RestoreOptions, 'actor' | 'openAudit'> = {
  actor: 'uid:0',
  openAudit: (directory, vault, keyring) => auditOf(directory, { acceptRollback: true })({ vault, keyring }),
};
