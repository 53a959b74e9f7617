import { KmsError } from '../errors.js';
import type { SealedDocuments } from '../store/key-store.js';

/** Documents read or written at once. */
const PAGE = 64;

/** The names of the databases for '', of what is in one for its prefix. */
async function* pagesOf(sealed: SealedDocuments, prefix: string): AsyncGenerator<string[]> {
  for (let after: string | undefined; ; ) {
    const page = await sealed.list(prefix, after, PAGE);
    yield page;
    if (page.length < PAGE) return;
    after = page.at(-1);
  }
}

async function* namesOf(sealed: SealedDocuments, prefix: string): AsyncGenerator<string> {
  for await (const page of pagesOf(sealed, prefix)) yield* page;
}

function isSame(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a !== undefined && b !== undefined && Buffer.compare(a, b) === 0;
}

async function isMissing(sealed: SealedDocuments, names: readonly string[]): Promise<boolean> {
  return (await Promise.all(names.map((name) => sealed.read(name)))).includes(undefined);
}

/** Makes the documents of `target` those of `source`. Returns how many there are, and how many had to be written. */
export async function copyDocuments(
  source: SealedDocuments,
  target: SealedDocuments,
): Promise<{ documents: number; written: number }> {
  for await (const database of namesOf(target, '')) await dropUnless(source, target, database);
  const made = { documents: 0, written: 0 };
  const copy = async (name: string) => {
    const [found, there] = await Promise.all([source.read(name), target.read(name)]);
    if (found === undefined) throw new KmsError('STORE_UNAVAILABLE', `the document ${name} is gone`);
    made.documents += 1;
    if (isSame(found, there)) return;
    await target.write(name, found, there);
    made.written += 1;
  };
  for await (const databases of pagesOf(source, '')) {
    await Promise.all(databases.map(copy));
    for (const database of databases) {
      for await (const names of pagesOf(source, `${database}/`)) await Promise.all(names.map(copy));
    }
  }
  return made;
}

/** A database that holds what its source does not is copied anew: there is no way to remove one document. */
async function dropUnless(source: SealedDocuments, target: SealedDocuments, database: string): Promise<void> {
  let isWithin = !(await isMissing(source, [database]));
  for await (const names of pagesOf(target, `${database}/`)) isWithin &&= !(await isMissing(source, names));
  if (!isWithin) await target.drop(database);
}

/** Reads all of both back. STORE_UNAVAILABLE unless they are the same. */
export async function compareDocuments(source: SealedDocuments, target: SealedDocuments): Promise<void> {
  for (const [one, other] of [
    [source, target],
    [target, source],
  ] as const) {
    const compare = async (name: string) => {
      if (isSame(await one.read(name), await other.read(name))) return;
      throw new KmsError('STORE_UNAVAILABLE', `the document ${name} is not the same in both stores`);
    };
    for await (const databases of pagesOf(one, '')) {
      await Promise.all(databases.map(compare));
      for (const database of databases) {
        for await (const names of pagesOf(one, `${database}/`)) await Promise.all(names.map(compare));
      }
    }
  }
}
