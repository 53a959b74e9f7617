import { badRecords, checkSeal, openBackup, scanBackup } from '../../dist/backup/verify.js';
import type { Place } from '../provider/subjects.js';
import { master } from './ground.js';

/** What is wrong with the records of a backup. Throws for what is wrong with the whole. */
export async function checkBackup(path: string, place: Place): Promise<string[]> {
  const backup = openBackup(await scanBackup(path), master(place));
  try {
    await checkSeal(backup);
    const bad: string[] = [];
    for await (const { keyId, reason } of badRecords(backup, () => {})) bad.push(`${keyId}: ${reason}`);
    return bad;
  } finally {
    backup.vault.close();
  }
}
