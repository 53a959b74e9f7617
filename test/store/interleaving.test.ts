import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { KmsError } from '../../dist/errors.js';
import { type FileSystem, nodeFileSystem } from '../../dist/store/file-system.js';
import { openFileStore } from '../../dist/store/files.js';
import type { KeyMeta, KeyStore } from '../../dist/store/key-store.js';
import { temporaries } from './data-dir.js';
import { newRecord, next, plain } from './documents.js';
import { ScheduledFileSystem } from './scheduled.js';
import { seededAsync } from './seed.js';

interface Plan {
  /** Updates each asynchronous writer makes, one after the other. */
  writers: number[];
  /** Which held call goes next; a negative number first runs a blocking update. */
  schedule: number[];
}

const PLAN = fc.record({
  writers: fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 4 }),
  schedule: fc.array(fc.integer({ min: -8, max: 24 }), { minLength: 20, maxLength: 120 }),
});

type WritableStore = Pick<KeyStore, 'createRecord' | 'readRecord' | 'readRecordSync' | 'replaceRecord' | 'replaceRecordSync'>;

interface Outcome {
  versions: number[];
  final: KeyMeta | undefined;
  conflicts: number;
}

/** Runs a plan over one record whose `usesReserved` every update raises by one, and tells which versions were acknowledged. */
async function run(plan: Plan, store: WritableStore, scheduled: ScheduledFileSystem): Promise<Outcome> {
  const record = newRecord({ usesReserved: 0 });
  const outcome: Outcome = { versions: [], final: undefined, conflicts: 0 };
  const raised = (current: KeyMeta) => next(current, { usesReserved: current.usesReserved + 1 });

  async function writer(updates: number): Promise<void> {
    for (let left = updates; left > 0; ) {
      const update = raised((await store.readRecord(record.keyId)) as KeyMeta);
      try {
        await store.replaceRecord(update);
        outcome.versions.push(update.version);
        left -= 1;
      } catch (error) {
        if (!(error instanceof KmsError) || error.code !== 'CONFLICT') throw error;
        outcome.conflicts += 1;
      }
    }
  }

  function blocking(): void {
    const update = raised(store.readRecordSync(record.keyId) as KeyMeta);
    store.replaceRecordSync(update);
    outcome.versions.push(update.version);
  }

  const drain = async (work: Promise<unknown>, picks: number[]): Promise<void> => {
    let done = false;
    const finished = work.finally(() => {
      done = true;
    });
    finished.catch(() => {});
    for (let at = 0; !done; at += 1) {
      const pick = picks[at] ?? 0;
      if (pick < 0) blocking();
      if (scheduled.held > 0) await scheduled.step(Math.abs(pick));
      else await new Promise(setImmediate);
    }
    await finished;
  };

  await drain(store.createRecord(record), []);
  await drain(Promise.all(plan.writers.map(writer)), plan.schedule);
  outcome.final = store.readRecordSync(record.keyId);
  return outcome;
}

/** What must hold of every outcome: each acknowledged update is in the record, and no version was given twice or left out. */
function nothingLost({ versions, final }: Outcome): boolean {
  const contiguous = [...versions].sort((a, b) => a - b).every((version, index) => version === index + 2);
  return contiguous && final?.version === versions.length + 1 && final.usesReserved === versions.length;
}

async function withStore<T>(work: (store: KeyStore, scheduled: ScheduledFileSystem, dataDir: string) => Promise<T>): Promise<T> {
  const dataDir = mkdtempSync(join(tmpdir(), 'kms-schedule-'));
  const scheduled = new ScheduledFileSystem();
  let live = nodeFileSystem;
  const fileSystem = new Proxy(nodeFileSystem, { get: (_target, property: keyof FileSystem) => live[property] });
  const store = await openFileStore({ dataDir, fileSystem });
  live = scheduled.fileSystem;
  try {
    return await work(store, scheduled, dataDir);
  } finally {
    live = nodeFileSystem;
    await store.close();
    rmSync(dataDir, { recursive: true, force: true });
  }
}

test('whatever the schedule, asynchronous and blocking writers lose none of each other’s updates', async (t) => {
  let conflicts = 0;
  await seededAsync(
    t,
    fc.asyncProperty(PLAN, (plan) =>
      withStore(async (store, scheduled, dataDir) => {
        const outcome = await run(plan, store, scheduled);
        conflicts += outcome.conflicts;
        return nothingLost(outcome) && temporaries(dataDir).length === 0;
      }),
    ),
    150,
  );
  t.true(conflicts > 0, 'the schedules made writers meet');
});

/** The control: compares first and writes later, as a store must not. */
function racyStore(fileSystem: FileSystem): WritableStore {
  const records = new Map<string, KeyMeta>();
  const compare = (record: KeyMeta) => {
    if (records.get(record.keyId)?.version !== record.version - 1) throw new KmsError('CONFLICT');
  };
  return {
    createRecord: async (record) => void records.set(record.keyId, record),
    readRecord: async (keyId) => records.get(keyId),
    readRecordSync: (keyId) => records.get(keyId),
    replaceRecord: async (record) => {
      compare(record);
      await fileSystem.fsync(0);
      records.set(record.keyId, record);
    },
    replaceRecordSync: (record) => {
      compare(record);
      records.set(record.keyId, record);
    },
  };
}

test('the same schedules find the lost update of a store that compares before it stages', async (t) => {
  const property = fc.asyncProperty(PLAN, async (plan) => {
    const scheduled = new ScheduledFileSystem();
    return nothingLost(await run(plan, racyStore(scheduled.fileSystem), scheduled));
  });
  t.true((await fc.check(property, { numRuns: 150, seed: 1 })).failed);
});

test('a blocking write between the staging and the commit of an asynchronous one wins, and the other is told', async (t) => {
  await withStore(async (store, scheduled) => {
    const record = newRecord();
    const settle = async (work: Promise<unknown>) => {
      let done = false;
      const finished = work.finally(() => {
        done = true;
      });
      finished.catch(() => {});
      while (!done) await scheduled.step(0);
      return finished;
    };
    await settle(store.createRecord(record));
    const slow = store.replaceRecord(next(record, { usesReserved: 1 }));
    await scheduled.step(0);
    await scheduled.step(0);
    const fast = next(record, { usesReserved: 2 });
    store.replaceRecordSync(fast);
    await t.throwsAsync(settle(slow), { instanceOf: KmsError, code: 'CONFLICT' });
    t.deepEqual(plain(store.readRecordSync(record.keyId)), fast);
    const after = next(fast, { usesReserved: 3 });
    await settle(store.replaceRecord(after));
    t.deepEqual(plain(store.readRecordSync(record.keyId)), after);
  });
});
