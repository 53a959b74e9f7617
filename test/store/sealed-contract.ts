import { randomBytes } from 'node:crypto';
import type { ExecutionContext, TestFn } from 'ava';
import { KmsError } from '../../dist/errors.js';
import type { KeyStore, SealedDocuments } from '../../dist/store/key-store.js';

const hex = () => randomBytes(16).toString('hex');
const bytes = (text: string) => new Uint8Array(Buffer.from(text));
const text = (document: Uint8Array | undefined) => document && Buffer.from(document).toString();

async function code(t: ExecutionContext, work: Promise<unknown>): Promise<string | undefined> {
  return (await t.throwsAsync(work, { instanceOf: KmsError }))?.code;
}

async function listed(sealed: SealedDocuments, prefix: string, limit: number): Promise<string[]> {
  const names: string[] = [];
  for (let page = await sealed.list(prefix, undefined, limit); page.length > 0; ) {
    names.push(...page);
    page = await sealed.list(prefix, names.at(-1), limit);
  }
  return names;
}

/** What the sealed documents of every key store must do. */
export function sealedContract(test: TestFn, open: (t: ExecutionContext) => Promise<KeyStore>): void {
  test('a new store has no sealed documents', async (t) => {
    const { sealed } = await open(t);
    const database = hex();
    t.is(await sealed.read(database), undefined);
    t.is(await sealed.read(`${database}/${hex()}`), undefined);
    t.deepEqual(await sealed.list('', undefined, 10), []);
    t.deepEqual(await sealed.list(`${database}/`, undefined, 10), []);
    await t.notThrowsAsync(sealed.drop(database));
  });

  test('a sealed document reads back the same, and what callers do to their bytes changes nothing', async (t) => {
    const { sealed } = await open(t);
    const database = hex();
    const name = `${database}/${hex()}`;
    await sealed.write(database, bytes('a database'), undefined);
    const given = bytes('sealed');
    const written = sealed.write(name, given, undefined);
    given.fill(0);
    await written;
    (await sealed.read(name))?.fill(0);
    t.is(text(await sealed.read(name)), 'sealed');
    t.is(text(await sealed.read(database)), 'a database');
  });

  test('a sealed document takes the place of what its writer knows, and of nothing else', async (t) => {
    const { sealed } = await open(t);
    const database = hex();
    for (const name of [database, `${database}/${hex()}`]) {
      await sealed.write(name, bytes('first'), undefined);
      t.is(await code(t, sealed.write(name, bytes('second'), undefined)), 'CONFLICT');
      t.is(await code(t, sealed.write(name, bytes('second'), bytes('other'))), 'CONFLICT');
      t.is(text(await sealed.read(name)), 'first');
      await sealed.write(name, bytes('second'), bytes('first'));
      t.is(text(await sealed.read(name)), 'second');
      t.is(await code(t, sealed.write(name, bytes('third'), bytes('first'))), 'CONFLICT');
    }
    t.is(await code(t, sealed.write(`${database}/${hex()}`, bytes('new'), bytes('old'))), 'CONFLICT');
  });

  test('of several writers who know the same sealed document exactly one wins', async (t) => {
    const { sealed } = await open(t);
    const database = hex();
    const name = `${database}/${hex()}`;
    await sealed.write(database, bytes('a database'), undefined);
    for (const before of [undefined, bytes('0')]) {
      const writes = Array.from({ length: 8 }, (_, index) => sealed.write(name, bytes(before ? `1${index}` : '0'), before));
      const results = await Promise.allSettled(writes);
      t.is(results.filter(({ status }) => status === 'fulfilled').length, 1);
      for (const result of results) if (result.status === 'rejected') t.is(result.reason.code, 'CONFLICT');
    }
  });

  test('nothing is written into a database that is not there', async (t) => {
    const { sealed } = await open(t);
    const database = hex();
    t.is(await code(t, sealed.write(`${database}/${hex()}`, bytes('x'), undefined)), 'CONFLICT');
    t.deepEqual(await sealed.list(`${database}/`, undefined, 10), []);
  });

  test('databases and what is in them are listed apart, ascending, in pages that neither skip nor repeat', async (t) => {
    const { sealed } = await open(t);
    const databases = Array.from({ length: 12 }, hex);
    for (const database of databases) await sealed.write(database, bytes('a database'), undefined);
    const [first, second] = databases as [string, string];
    const names = Array.from({ length: 23 }, () => `${first}/${hex()}`);
    await Promise.all(names.map((name) => sealed.write(name, bytes('x'), undefined)));
    await sealed.write(`${second}/${hex()}`, bytes('y'), undefined);
    t.deepEqual(await listed(sealed, '', 5), [...databases].sort());
    t.deepEqual(await listed(sealed, `${first}/`, 5), [...names].sort());
    t.is((await listed(sealed, `${second}/`, 5)).length, 1);
  });

  test('a dropped database is gone with all that is in it, and the others stay', async (t) => {
    const { sealed } = await open(t);
    const [dropped, kept] = [hex(), hex()];
    const name = `${dropped}/${hex()}`;
    for (const database of [dropped, kept]) await sealed.write(database, bytes('a database'), undefined);
    await sealed.write(name, bytes('x'), undefined);
    await sealed.write(`${kept}/${hex()}`, bytes('y'), undefined);
    await sealed.drop(dropped);
    t.is(await sealed.read(dropped), undefined);
    t.is(await sealed.read(name), undefined);
    t.deepEqual(await sealed.list('', undefined, 10), [kept]);
    t.deepEqual(await sealed.list(`${dropped}/`, undefined, 10), []);
    t.is((await sealed.list(`${kept}/`, undefined, 10)).length, 1);
    t.is(await code(t, sealed.write(name, bytes('again'), undefined)), 'CONFLICT');
    await sealed.write(dropped, bytes('a new one'), undefined);
    t.is(await sealed.read(name), undefined);
  });

  test('a name or prefix that is none is refused before it reaches anything, and so is a document that is too long', async (t) => {
    const { sealed } = await open(t);
    const database = hex();
    await sealed.write(database, bytes('a database'), undefined);
    for (const name of [
      '',
      'x',
      '../etc',
      `${database}/`,
      `${database}/x`,
      `${database}/..`,
      database.toUpperCase(),
      `${database}/${hex()}/x`,
    ]) {
      t.is(await code(t, sealed.read(name)), 'INVALID_ARGUMENT', name);
      t.is(await code(t, sealed.write(name, bytes('x'), undefined)), 'INVALID_ARGUMENT', name);
    }
    for (const prefix of [database, '/', '../', `${database}/0`]) {
      t.is(await code(t, sealed.list(prefix, undefined, 1)), 'INVALID_ARGUMENT', prefix);
    }
    t.is(await code(t, sealed.write(`${database}/${hex()}`, new Uint8Array(4_097), undefined)), 'TOO_LARGE');
  });

  test('after its store is closed a sealed document is neither read nor written', async (t) => {
    const store = await open(t);
    const database = hex();
    await store.sealed.write(database, bytes('a database'), undefined);
    await store.close();
    t.is(await code(t, store.sealed.read(database)), 'STORE_UNAVAILABLE');
    t.is(await code(t, store.sealed.write(database, bytes('x'), bytes('a database'))), 'STORE_UNAVAILABLE');
    t.is(await code(t, store.sealed.list('', undefined, 1)), 'STORE_UNAVAILABLE');
  });
}
