import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connectKms } from '../../dist/client/index.js';
import type { KmsClient } from '../../dist/client/kms-client.js';
import { createEmbeddedKms, type EmbeddedKms } from '../../dist/create.js';
import { binding } from '../../dist/native.js';
import type { StoreKind } from '../../dist/store/key-store.js';
import { temporaries } from '../store/data-dir.js';

/** Where one service lives, whoever runs it: processes come and go on it. */
export interface Ground {
  /** What a start makes there; absent for what it makes unless told. */
  store?: StoreKind;
  directory: string;
  dataDir: string;
  keyFile: string;
  socket: string;
}

export function newGround(store?: StoreKind): Ground {
  const directory = mkdtempSync(join(tmpdir(), 'kms-crash-'));
  const keyFile = join(directory, 'master.key');
  binding.writeKeyFile(keyFile);
  return { directory, dataDir: join(directory, 'data'), keyFile, socket: join(directory, 'kms.sock'), ...(store && { store }) };
}

export function removeGround(ground: Ground): void {
  rmSync(ground.directory, { recursive: true, force: true });
}

/** The service in this process. */
export function embeddedOn({ dataDir, keyFile, store }: Ground): Promise<EmbeddedKms> {
  return createEmbeddedKms({ dataDir, masterKeyFile: keyFile, ...(store && { store }) });
}

/** Longer than any machine stalls: an answer that comes late is one. */
const PATIENCE_MS = 120_000;

/** A client of the daemon there. */
export function connectedTo({ socket }: Ground): Promise<KmsClient> {
  return connectKms({ socket, deadlineMs: PATIENCE_MS });
}

/** A record as it lies on the disk, read by nothing of the product. */
export interface RecordFile {
  key_id: string;
  thread_id: string;
  state: string;
  version: number;
  wrapped: string;
  uses_reserved: number;
  mac: string;
}

export function recordFile(ground: Ground, keyId: string): RecordFile {
  const record = JSON.parse(readFileSync(join(ground.dataDir, 'kms-deks', `${keyId}.json`), 'utf8')) as RecordFile;
  if (record.key_id !== keyId || typeof record.mac !== 'string') throw new Error(`the record of ${keyId} is not whole`);
  return record;
}

/** The ids that have a file under its final name. */
export function keyIdsOn(ground: Ground): string[] {
  const names = readdirSync(join(ground.dataDir, 'kms-deks'));
  return names.filter((name) => name.endsWith('.json')).map((name) => name.slice(0, -'.json'.length));
}

export function leftoversOn(ground: Ground): string[] {
  return temporaries(ground.dataDir);
}

export function usesReserved(ground: Ground, keyIds: Iterable<string>): Map<string, number> {
  return new Map([...keyIds].map((keyId) => [keyId, recordFile(ground, keyId).uses_reserved]));
}

/** Throws unless every record of the store opens as a use would open it. Returns how many there are. */
export async function verifyAll(kms: EmbeddedKms): Promise<number> {
  let records = 0;
  for await (const { keyId, fault } of kms.verifyRecords()) {
    if (fault !== null) throw new Error(`the record of ${keyId} is damaged: ${fault}`);
    records += 1;
  }
  return records;
}
