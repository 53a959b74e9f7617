import type { Entry } from '../thread-store.js';

/** What a job keeps of an entry that it has rewritten. */
export interface Backup {
  jobId: string;
  threadId: string;
  /** Of what the job wrote: what was changed since is not put back. */
  wrote: string;
  /** As it stood there, byte for byte. */
  value: Uint8Array;
}

/** What a job kept, and where. */
export interface Kept extends Entry {
  backup: Backup;
}

/** Before what was kept, which is JSON itself and stands there as it is: no name or digest before it has a quote in it. */
const VALUE = ',"entry":';
/** What stands before it: two ids and a digest. */
const MAX_HEAD = 1_024;
const BEGIN = '{"jobId":';

/** Longer than the value by some hundred bytes: whatever the store takes but for the very longest, it takes the backup of. */
export function backupBytes({ value, ...head }: Backup): Uint8Array {
  return Buffer.concat([Buffer.from(JSON.stringify(head).slice(0, -1) + VALUE), value, Buffer.from('}')]);
}

/**
 * undefined for what no job of ours has kept: the original has backups of its own under such keys. Those of before hold the value
 * in base64.
 */
export function readBackup(bytes: Uint8Array): Backup | undefined {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (text.toString('latin1', 0, BEGIN.length) !== BEGIN) return undefined;
  const end = text.subarray(0, MAX_HEAD).indexOf(VALUE);
  try {
    if (end >= 0) {
      const head = JSON.parse(`${text.toString('utf8', 0, end)}}`) as Omit<Backup, 'value'>;
      return { ...head, value: text.subarray(end + VALUE.length, -1) };
    }
    const { value, ...head } = JSON.parse(text.toString('utf8')) as Omit<Backup, 'value'> & { value: string };
    return { ...head, value: Buffer.from(value, 'base64') };
  } catch {
    return undefined;
  }
}
