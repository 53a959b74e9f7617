import type { ExecutionContext } from 'ava';
import type { AuditLog } from '../../dist/audit/audit-log.js';
import { Administration } from '../../dist/kms/administration.js';
import { DataEvents } from '../../dist/kms/data-events.js';
import { Keys } from '../../dist/kms/keys.js';
import { Messages } from '../../dist/kms/messages.js';
import { openStore } from '../../dist/kms/opened.js';
import type { KeyStore } from '../../dist/store/key-store.js';
import type { MasterSource } from '../../dist/vault.js';

/** What stands on an open store below the provider, with an audit log of the test's. */
export async function administered(t: ExecutionContext, store: KeyStore, hex: string, audit: AuditLog) {
  const master: MasterSource = { kind: 'bytes', bytes: new Uint8Array(Buffer.from(hex, 'hex')) };
  const arena = { arenaBytes: 1024 * 1024, keptContexts: 64 };
  const opened = await openStore(store, master, { arena, cachedKeys: 1_000, initialise: true, strict: false }, () => {});
  const messages = new Messages(opened.cache, new DataEvents(opened.vault, async () => {}));
  const settings = { master, keepBackups: 1, keysPerSecond: 0, dueDays: 365 };
  const administration = new Administration(opened, store, messages, audit, settings);
  const wipe = async () => {
    const stopped = administration.rotation.stop();
    opened.cache.close();
    opened.vault.close();
    await stopped;
  };
  t.teardown(wipe);
  return { opened, keys: new Keys(opened, store), messages, administration, wipe };
}
