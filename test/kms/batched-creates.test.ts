import test, { type ExecutionContext } from 'ava';
import { type AuditEvent, NO_AUDIT, type OpenAuditLog } from '../../dist/audit/audit-log.js';
import { KmsError } from '../../dist/errors.js';
import type { KeyStore } from '../../dist/store/key-store.js';
import { arenaInfo } from '../../dist/vault.js';
import { K1, openOn, STORES, storeWith } from './stores.js';

const [, openLmdb] = STORES[1]!;

/** A log whose lines are durable once `flush` says so. */
function auditThrough(flush: () => Promise<void> = async () => {}) {
  const events: AuditEvent[] = [];
  let flushes = 0;
  const writeAll = async (all: readonly AuditEvent[]) => {
    events.push(...all);
    flushes += 1;
    await flush();
  };
  const note = (event: AuditEvent) => void events.push(event);
  const log: OpenAuditLog = { ...NO_AUDIT, note, write: (event) => writeAll([event]), writeAll };
  return { events, log, flushes: () => flushes };
}

async function opened(t: ExecutionContext, audit: OpenAuditLog, over: (store: KeyStore) => KeyStore = (store) => store) {
  const store = await openLmdb(t);
  return { store, kms: await openOn(t, over(store), K1, { openAudit: async () => audit }) };
}

test('keys that are asked for in one turn share a write to the store and a sync of the log, and each has its own line', async (t) => {
  const written: string[] = [];
  const { events, log, flushes } = auditThrough();
  const { store, kms } = await opened(t, log, (real) =>
    storeWith(real, (name, write) => {
      written.push(name);
      return write();
    }),
  );
  await kms.createDek();
  const before = flushes();
  written.length = 0;
  const keys = await Promise.all(Array.from({ length: 50 }, (_, index) => kms.createDekForThread(`thread-${index}`)));
  t.is(written.filter((name) => name === 'createMany').length, 1);
  t.is(flushes() - before, 1);
  t.is(new Set(keys.map(({ keyId }) => keyId)).size, 50);
  t.true(keys.every(({ keyId }) => /^k_[0-9a-f]{32}$/.test(keyId)));
  t.is(new Set(keys.map(({ keyId }) => keyId.slice(0, 10))).size, 1, 'those that are written together lie together');
  t.is(new Set(keys.map(({ keyId }) => keyId.slice(10))).size, 50);
  for (const [index, { keyId, wrapped, kekId, kekVersion }] of keys.entries()) {
    const record = (await store.readRecord(keyId))!;
    t.like(record, { threadId: `thread-${index}`, kekId, kekVersion: Number(kekVersion), usesReserved: 1_024, version: 1 });
    t.deepEqual(Buffer.from(record.wrapped), Buffer.from(wrapped));
    t.like(
      events.find((event) => event.keyId === keyId),
      { type: 'create_dek', threadId: `thread-${index}`, outcome: 'ok' },
    );
  }
});

test('a key is told only when its line is durable', async (t) => {
  let release: (() => void) | undefined;
  let isHeld = false;
  const { log } = auditThrough(() => (isHeld ? new Promise<void>((resolve) => (release = resolve)) : Promise.resolve()));
  const { kms } = await opened(t, log);
  await kms.createDek();
  isHeld = true;
  let told = false;
  const creating = kms.createDek().then(() => (told = true));
  while (release === undefined) await new Promise((resolve) => setTimeout(resolve, 1));
  await new Promise((resolve) => setTimeout(resolve, 20));
  t.false(told);
  (release as () => void)();
  await creating;
  t.true(told);
});

test('a key that is told is in the vault, unless it was disabled before its maker heard of it', async (t) => {
  let isSeen = false;
  const { events, log } = auditThrough(async () => {
    const keyId = events.at(-1)?.keyId;
    if (isSeen && keyId !== undefined) {
      isSeen = false;
      await kms.disableKey(keyId);
    }
  });
  const { kms } = await opened(t, log);
  await kms.createDek();
  const cached = kms.cachedKeys;
  await Promise.all([kms.createDek(), kms.createDek()]);
  t.is(kms.cachedKeys, cached + 2);
  isSeen = true;
  const { keyId } = await kms.createDek();
  await t.throwsAsync(kms.encryptWithDek(keyId, Buffer.from('text')), { code: 'KEY_DISABLED' });
});

test('where no line can be written the keys are told to nobody', async (t) => {
  let fails = false;
  const { log } = auditThrough(async () => {
    if (fails) throw new KmsError('AUDIT_UNAVAILABLE', 'no room');
  });
  const { kms } = await opened(t, log);
  await kms.createDek();
  fails = true;
  const results = await Promise.allSettled([kms.createDek(), kms.createDek()]);
  t.deepEqual(
    results.map((result) => result.status === 'rejected' && result.reason.code),
    Array(2).fill('AUDIT_UNAVAILABLE'),
  );
});

test.serial('a store that fails leaves no key in the vault, and each who asked hears of it, and so does the log', async (t) => {
  let fault: KmsError | undefined;
  const { events, log } = auditThrough();
  const { kms } = await opened(t, log, (real) =>
    storeWith(real, (name, write) => {
      if (name === 'createMany' && fault !== undefined) throw fault;
      return write();
    }),
  );
  await kms.createDek();
  const used = arenaInfo().used;
  const cached = kms.cachedKeys;
  fault = new KmsError('STORE_UNAVAILABLE', 'EIO at write');
  const results = await Promise.allSettled([kms.createDekForThread('a'), kms.createDekForThread('b')]);
  t.deepEqual(
    results.map((result) => result.status === 'rejected' && result.reason.code),
    Array(2).fill('STORE_UNAVAILABLE'),
  );
  t.is(kms.cachedKeys, cached);
  t.is(arenaInfo().used, used);
  const failed = events.filter(({ outcome }) => outcome === 'STORE_UNAVAILABLE');
  t.deepEqual(failed.map(({ threadId }) => threadId).sort(), ['a', 'b']);
  fault = undefined;
  t.truthy((await kms.createDek()).keyId);
});

test('an id that is taken is told to the one who got it, and the others have their keys', async (t) => {
  let takes = false;
  const { log } = auditThrough();
  const { kms } = await opened(t, log, (real) =>
    storeWith(real, async (name, write) => {
      const result = await write();
      return takes && name === 'createMany' ? (result as boolean[]).map((_, index) => index !== 1) : result;
    }),
  );
  await kms.createDek();
  takes = true;
  const results = await Promise.allSettled([kms.createDek(), kms.createDek(), kms.createDek()]);
  t.deepEqual(
    results.map((result) => (result.status === 'fulfilled' ? 'made' : result.reason.code)),
    ['made', 'CONFLICT', 'made'],
  );
});

test('more keys at once than a transaction takes are all made', async (t) => {
  const { kms, store } = await opened(t, auditThrough().log);
  const keys = await Promise.all(Array.from({ length: 2_500 }, () => kms.createDek()));
  t.is(new Set(keys.map(({ keyId }) => keyId)).size, 2_500);
  const known = await store.listKeyIds(undefined, 10_000);
  t.is(known.length, 2_500);
});
