import type { ExecutionContext } from 'ava';
import type { EmbeddedKms } from '../../dist/create.js';
import { newPlace, openAt, openMemory, served } from '../provider/subjects.js';

export interface Imported {
  kms: EmbeddedKms;
  /** In the order of the raw keys. */
  keyIds: string[];
}

async function importAll(kms: EmbeddedKms, raws: readonly Uint8Array[]): Promise<string[]> {
  const keyIds: string[] = [];
  // The import wipes what it is given.
  for (const raw of raws) keyIds.push((await kms.wrapDek(new Uint8Array(raw))).keyId);
  return keyIds;
}

/** A provider in memory that holds these data keys. */
export async function embeddedWith(t: ExecutionContext, raws: readonly Uint8Array[]): Promise<Imported> {
  const kms = await openMemory(t, { exposeRawKeys: true });
  return { kms, keyIds: await importAll(kms, raws) };
}

/** A daemon on a store that these data keys were imported into before it started. */
export async function daemonWith(t: ExecutionContext, raws: readonly Uint8Array[]) {
  const place = newPlace(t);
  const kms = await openAt(t, place, { exposeRawKeys: true });
  const keyIds = await importAll(kms, raws);
  await kms.close();
  return { keyIds, ...(await served(t, place)) };
}
