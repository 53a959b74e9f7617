import type { ExecutionContext } from 'ava';
import type { EmbeddedKms } from '../../dist/create.js';
import type { DatabaseKms } from '../../dist/kms/databases/database-kms.js';
import type { KeyStore } from '../../dist/store/key-store.js';
import { Vault } from '../../dist/vault.js';

export const secretBytes = (text: string) => Uint8Array.from(Buffer.from(text, 'latin1'));

/** A database's secret, as text, so that it can be used more than once. */
export async function madeIn(kms: EmbeddedKms, actor = 'uid:1'): Promise<string> {
  const secret = await kms.newDatabase({ actor });
  const text = Buffer.from(secret).toString('latin1');
  secret.fill(0);
  return text;
}

export async function openedIn(t: ExecutionContext, kms: EmbeddedKms, secret: string): Promise<DatabaseKms> {
  const database = await kms.openDatabase(secretBytes(secret));
  t.teardown(() => database.leave());
  return database;
}

/** What a secret says, to be changed. */
export function partsOf(secret: string): { groupId: string; key: string } {
  const [, groupId, key] = /^\{"group_id":(\d+),"key":"([0-9a-f]{64})"\}$/.exec(Buffer.from(secret, 'base64').toString()) ?? [];
  return { groupId: groupId!, key: key! };
}

export function secretOf({ groupId, key }: { groupId: string; key: string }): string {
  return Buffer.from(`{"group_id":${groupId},"key":"${key}"}`).toString('base64');
}

/** Every document there is, by its name. */
export async function documentsIn({ sealed }: KeyStore): Promise<Map<string, Uint8Array>> {
  const documents = new Map<string, Uint8Array>();
  for (const database of await sealed.list('', undefined, 1_000)) {
    for (const name of [database, ...(await sealed.list(`${database}/`, undefined, 1_000))]) {
      documents.set(name, (await sealed.read(name))!);
    }
  }
  return documents;
}

const COUNTED = [
  'readDatabaseSecret',
  'unwrap',
  'join',
  'openDocument',
  'macMatches',
  'mac',
  'derive',
  'wrap',
  'sealDocument',
] as const;

/** How often `work` reads the store and calls what derives and opens. */
export async function countedIn(store: KeyStore, work: () => Promise<unknown>): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  const undo: Array<() => void> = [];
  const count = (of: object, name: string) => {
    const target = of as Record<string, (...args: unknown[]) => unknown>;
    const real = target[name]!;
    target[name] = function counting(this: unknown, ...args) {
      counts[name] = (counts[name] ?? 0) + 1;
      return real.apply(this, args);
    };
    undo.push(() => {
      target[name] = real;
    });
  };
  for (const name of COUNTED) count(Vault.prototype, name);
  for (const name of ['read', 'write', 'list']) count(store.sealed, name);
  for (const name of ['readRecord', 'readKeyring']) count(store, name);
  try {
    await work();
  } finally {
    for (const one of undo) one();
  }
  return counts;
}
