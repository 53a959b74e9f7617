import { randomBytes } from 'node:crypto';
import type { ExecutionContext, TestFn } from 'ava';
import { KmsError } from '../../dist/errors.js';
import type { Entry, ThreadStore, Unit } from '../../dist/threads/thread-store.js';

export function bytes(text: string): Uint8Array {
  return Buffer.from(text, 'utf8');
}

export function putting(...entries: Array<readonly [key: string, value: string]>): Unit {
  return { expect: [], put: entries.map(([key, value]) => ({ key, value: bytes(value) })), remove: [] };
}

export function removing(...keys: string[]): Unit {
  return { expect: [], put: [], remove: keys };
}

/** A unit that is made only where `key` holds `found`. */
function where(key: string, found: string | undefined, unit: Unit): Unit {
  return { ...unit, expect: [...unit.expect, { key, value: found === undefined ? undefined : bytes(found) }] };
}

function texts(values: ReadonlyArray<Uint8Array | undefined>): Array<string | undefined> {
  return values.map((value) => value && Buffer.from(value).toString('utf8'));
}

function keys(entries: readonly Entry[]): string[] {
  return entries.map(({ key }) => key);
}

const EVERYTHING = { from: '', to: '\x7f', limit: 10_000 };

/** What every store of threads must do. */
export function threadStoreContract(test: TestFn, open: (t: ExecutionContext) => Promise<ThreadStore>): void {
  test('what is put is read, under its key alone, until it is replaced or removed', async (t) => {
    const store = await open(t);
    t.deepEqual(await store.commit([putting(['a', '1'], ['b', ''])]), [true]);
    t.deepEqual(texts(await store.get(['b', 'a', 'c', 'a'])), ['', '1', undefined, '1']);
    await store.commit([putting(['a', '2']), removing('b', 'never there')]);
    t.deepEqual(texts(await store.get(['a', 'b'])), ['2', undefined]);
    t.deepEqual(await store.get([]), []);
  });

  test('keys are in the order of their bytes', async (t) => {
    const store = await open(t);
    const all = [
      'thread:a:meta',
      'thread:a',
      'thread:a:msg:2',
      'thread:a:msg:10',
      'thread:A',
      'thread: ',
      'thread:~',
      'a',
      '~',
      ' ',
    ];
    await store.commit([putting(...all.map((key) => [key, key] as const))]);
    const sorted = [...all].sort((a, b) => Buffer.compare(bytes(a), bytes(b)));
    t.deepEqual(keys(await store.range(EVERYTHING)), sorted);
    t.deepEqual(keys(await store.range({ ...EVERYTHING, reverse: true })), sorted.reverse());
  });

  test('a range has its first key and not its last, both ways, as many as asked for', async (t) => {
    const store = await open(t);
    await store.commit([putting(...['a', 'b', 'c', 'd', 'e'].map((key) => [key, `=${key}`] as const))]);
    const range = { from: 'b', to: 'd', limit: 10 };
    t.deepEqual(keys(await store.range(range)), ['b', 'c']);
    t.deepEqual(keys(await store.range({ ...range, reverse: true })), ['c', 'b']);
    t.deepEqual(keys(await store.range({ ...range, limit: 1 })), ['b']);
    t.deepEqual(keys(await store.range({ ...range, limit: 1, reverse: true })), ['c']);
    t.deepEqual(keys(await store.range({ from: 'b ', to: 'd ', limit: 10 })), ['c', 'd']);
    t.deepEqual(keys(await store.range({ from: 'b ', to: 'd ', limit: 10, reverse: true })), ['d', 'c']);
    t.deepEqual(keys(await store.range({ from: 'd', to: 'x', limit: 10, reverse: true })), ['e', 'd']);
    t.deepEqual(keys(await store.range({ from: '', to: 'b', limit: 10, reverse: true })), ['a']);
    t.deepEqual(texts((await store.range(range)).map(({ value }) => value)), ['=b', '=c']);
  });

  test('a range ends with the entry with which its values come to the bytes asked for, and goes on after it', async (t) => {
    const store = await open(t);
    const sizes = [3, 0, 2, 9, 1, 1, 0];
    const names = sizes.map((_, i) => `k${i}`);
    await store.commit([putting(...sizes.map((size, i) => [`k${i}`, 'v'.repeat(size)] as const))]);
    const cases: Array<[bytes: number, forwards: number, backwards: number]> = [
      [1, 1, 2],
      [3, 1, 4],
      [4, 3, 4],
      [5, 3, 4],
      [6, 4, 4],
      [11, 4, 4],
      [12, 4, 5],
      [15, 5, 7],
      [16, 6, 7],
      [17, 7, 7],
    ];
    for (const [bytes, forwards, backwards] of cases) {
      const range = { from: 'k', to: 'l', limit: 10, bytes };
      t.deepEqual(keys(await store.range(range)), names.slice(0, forwards), `${bytes}`);
      t.deepEqual(keys(await store.range({ ...range, reverse: true })), names.toReversed().slice(0, backwards), `${bytes} back`);
      t.deepEqual(keys(await store.range({ ...range, limit: 2 })), names.slice(0, Math.min(2, forwards)), `${bytes} of two`);
    }
    const walked: string[] = [];
    for (let from = 'k'; ; from = `${walked.at(-1)} `) {
      const page = await store.range({ from, to: 'l', limit: 10, bytes: 2 });
      if (page.length === 0) break;
      walked.push(...keys(page));
    }
    t.deepEqual(walked, names);
  });

  test('a range of large values has as many as its bytes allow, and one of any size', async (t) => {
    const store = await open(t);
    const value = randomBytes(300_000);
    const put = Array.from({ length: 12 }, (_, i) => ({ key: `k${i + 10}`, value }));
    await store.commit([{ expect: [], put, remove: [] }]);
    for (const [bytes, count] of [
      [1, 1],
      [300_000, 1],
      [300_001, 2],
      [1_000_000, 4],
      [100_000_000, 12],
    ] as const) {
      for (const reverse of [false, true]) {
        const found = await store.range({ from: 'k', to: 'l', limit: 100, bytes, reverse });
        t.is(found.length, count, `${bytes} ${reverse}`);
        t.true(found.every((entry) => Buffer.compare(entry.value, value) === 0));
      }
    }
  });

  test('a range in which there is nothing is empty', async (t) => {
    const store = await open(t);
    const nothing = [
      { from: 'a', to: 'z', limit: 10 },
      { ...EVERYTHING },
      { from: 'b', to: 'b', limit: 10 },
      { from: 'c', to: 'b', limit: 10 },
      { from: 'b ', to: 'bz', limit: 10 },
      { from: 'a', to: 'z', limit: 0 },
    ];
    for (const query of nothing.slice(0, 2)) t.deepEqual(await store.range(query), []);
    await store.commit([putting(['b', '1'], ['c', '2'])]);
    for (const query of nothing.slice(2)) {
      t.deepEqual(await store.range(query), [], JSON.stringify(query));
      t.deepEqual(await store.range({ ...query, reverse: true }), [], JSON.stringify(query));
    }
  });

  test('a unit is made where its expectations hold: of what is there, exactly, and of what is not', async (t) => {
    const store = await open(t);
    await store.commit([putting(['a', 'one'], ['empty', ''])]);
    const cases: Array<[key: string, found: string | undefined, isMade: boolean]> = [
      ['a', 'one', true],
      ['a', 'onE', false],
      ['a', 'on', false],
      ['a', 'one ', false],
      ['a', '', false],
      ['a', undefined, false],
      ['b', undefined, true],
      ['b', '', false],
      ['empty', '', true],
      ['empty', undefined, false],
    ];
    for (const [i, [key, found, isMade]] of cases.entries()) {
      t.deepEqual(await store.commit([where(key, found, putting([`made ${i}`, '']))]), [isMade], `${key} ${found}`);
    }
    const made = cases.flatMap(([, , isMade], i) => (isMade ? [`made ${i}`] : []));
    t.deepEqual(keys(await store.range({ from: 'made', to: 'madf', limit: 100 })), made);
  });

  test('a unit of which one expectation fails is not made at all, and the others of its call are', async (t) => {
    const store = await open(t);
    await store.commit([putting(['a', '1'], ['b', '1'])]);
    const refused = where('b', '2', where('a', '1', { expect: [], put: putting(['a', '2'], ['c', '2']).put, remove: ['b'] }));
    t.deepEqual(await store.commit([putting(['x', '1']), refused, putting(['y', '1'])]), [true, false, true]);
    t.deepEqual(texts(await store.get(['a', 'b', 'c', 'x', 'y'])), ['1', '1', undefined, '1', '1']);
  });

  test('a unit sees what those before it in its call have changed', async (t) => {
    const store = await open(t);
    const units = [
      where('a', undefined, putting(['a', '1'])),
      where('a', undefined, putting(['a', 'again'])),
      where('a', '1', putting(['a', '2'])),
      where('a', '2', removing('a')),
      where('a', undefined, putting(['b', 'after'])),
    ];
    t.deepEqual(await store.commit(units), [true, false, true, true, true]);
    t.deepEqual(texts(await store.get(['a', 'b'])), [undefined, 'after']);
    t.deepEqual(await store.commit([]), []);
  });

  test('of many that change what they have read, each is made on what it expects', async (t) => {
    const store = await open(t);
    await store.commit([putting(['n', '0'])]);
    const add = async () => {
      for (let tries = 1; ; tries += 1) {
        const [found] = texts(await store.get(['n']));
        const [isMade] = await store.commit([where('n', found, putting(['n', String(Number(found) + 1)], [`log ${found}`, '']))]);
        if (isMade) return tries;
      }
    };
    const tries = await Promise.all(Array.from({ length: 40 }, add));
    t.deepEqual(texts(await store.get(['n'])), ['40']);
    t.is((await store.range({ from: 'log', to: 'loh', limit: 100 })).length, 40, 'each once');
    t.true(
      tries.some((count) => count > 1),
      'some came too late',
    );
  });

  test('commits of many callers are all there, and each gets its own answers', async (t) => {
    const store = await open(t);
    const names = Array.from({ length: 1_000 }, (_, i) => `k${String(i).padStart(5, '0')}`);
    const made = await Promise.all(
      names.map((key, i) =>
        store.commit([where(key, undefined, putting([key, key])), where(key, i % 2 ? key : 'else', putting([`${key}x`, '']))]),
      ),
    );
    t.deepEqual(
      made,
      names.map((_, i) => [true, i % 2 === 1]),
    );
    t.deepEqual(
      keys(await store.range({ from: 'k', to: 'l', limit: 5_000 })),
      names.flatMap((key, i) => (i % 2 ? [key, `${key}x`] : [key])),
    );
  });

  test('what was given belongs to its giver again once it is committed, and what is read to its reader', async (t) => {
    const store = await open(t);
    const given = bytes('given');
    const expected = bytes('first');
    await store.commit([putting(['a', 'first'])]);
    const unit = { expect: [{ key: 'a', value: expected }], put: [{ key: 'b', value: given }], remove: [] as string[] };
    t.deepEqual(await store.commit([unit]), [true]);
    given.fill(0);
    expected.fill(0);
    unit.remove.push('a');
    for (let round = 0; round < 2; round += 1) {
      const [a, b] = await store.get(['a', 'b']);
      t.deepEqual(texts([a, b]), ['first', 'given']);
      const entries = await store.range({ from: 'a', to: 'c', limit: 2 });
      t.deepEqual(texts(entries.map(({ value }) => value)), ['first', 'given']);
      for (const value of [a!, b!, ...entries.map((entry) => entry.value)]) value.fill(0);
    }
  });

  test('large values come back whole, alone and in ranges', async (t) => {
    const store = await open(t);
    const values = [4_095, 4_096, 70_000, 1024 * 1024, 1024 * 1024 + 1].map((size) => randomBytes(size));
    const put = values.map((value, i) => ({ key: `large ${i}`, value }));
    await store.commit([{ expect: [], put, remove: [] }]);
    const found = await store.get(put.map(({ key }) => key));
    const range = await store.range(EVERYTHING);
    t.is(range.length, values.length);
    for (const [i, value] of values.entries()) {
      t.true(Buffer.compare(found[i]!, value) === 0, `value ${i}`);
      t.true(Buffer.compare(range[i]!.value, value) === 0, `value ${i} of the range`);
    }
    const expect = [{ key: 'large 3', value: values[3] }];
    t.deepEqual(await store.commit([{ expect, put: [{ key: 'large 3', value: bytes('small') }], remove: ['large 4'] }]), [true]);
    t.deepEqual(texts(await store.get(['large 3', 'large 4'])), ['small', undefined]);
  });

  test('keys of up to 1,024 characters are told apart by their last', async (t) => {
    const store = await open(t);
    const long = 'k'.repeat(1_023);
    const all = [`${long}a`, `${long}b`, long];
    await store.commit([putting(...all.map((key, i) => [key, String(i)] as const))]);
    t.deepEqual(texts(await store.get(all)), ['0', '1', '2']);
    t.deepEqual(keys(await store.range({ from: long, to: `${long}~`, limit: 10 })), [long, `${long}a`, `${long}b`]);
    for (let i = 0; i < 40; i += 1) {
      t.deepEqual(keys(await store.range({ from: `${long}a `, to: `${long}b `, limit: 10, reverse: true })), [`${long}b`]);
    }
  });

  test('a thousand entries come in one range, as they were put', async (t) => {
    const store = await open(t);
    const entries = Array.from(
      { length: 2_000 },
      (_, i) => [`k${String(i).padStart(6, '0')}`, `value ${i} ${'.'.repeat(i % 500)}`] as const,
    );
    await store.commit(entries.map((entry) => putting(entry)));
    const found = await store.range({ from: 'k000500', to: 'l', limit: 1_000 });
    t.deepEqual(
      found.map(({ key, value }) => [key, texts([value])[0]]),
      entries.slice(500, 1_500),
    );
  });

  test('a compaction keeps what there is, and what is committed meanwhile', async (t) => {
    const store = await open(t);
    const before = Array.from({ length: 500 }, (_, i) => [`k${i + 1_000}`, `${i}`] as const);
    await store.commit([putting(...before), removing('k1003')]);
    const during = ['x', 'y', 'z'].map((key) => store.commit([putting([key, key])]));
    await Promise.all([store.compact(), ...during, store.compact(), store.commit([putting(['k1001', 'new'])])]);
    const [first, second] = [before[0]!, before[2]!];
    t.deepEqual(texts(await store.get(['k1000', 'k1001', 'k1002', 'k1003', 'x', 'y', 'z'])), [
      first[1],
      'new',
      second[1],
      undefined,
      'x',
      'y',
      'z',
    ]);
    t.is((await store.range(EVERYTHING)).length, 502);
    t.deepEqual(await store.commit([where('x', 'x', putting(['x', 'after']))]), [true]);
  });

  test('a closed store refuses everything, and is closed as often as one likes', async (t) => {
    const store = await open(t);
    const last = store.commit([putting(['a', '1'])]);
    await store.close();
    t.deepEqual(await last, [true], 'what was asked before is done');
    await store.close();
    const calls = [
      () => store.get(['a']),
      () => store.range({ from: 'a', to: 'b', limit: 1 }),
      () => store.commit([putting(['b', '1'])]),
      () => store.compact(),
    ];
    for (const call of calls) {
      const error = await t.throwsAsync(call, { instanceOf: KmsError });
      t.is(error?.code, 'STORE_UNAVAILABLE');
      t.regex(error?.message ?? '', /closed/);
    }
  });
}
