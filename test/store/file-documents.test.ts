import { randomBytes } from 'node:crypto';
import { lstatSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { MAX_OPEN_DIRECTORIES } from '../../dist/limits.js';
import { newDataDir, openedStore } from './data-dir.js';
import { interceptedFileSystem, systemError } from './intercepted.js';
import { sealedContract } from './sealed-contract.js';

sealedContract(test, async (t) => openedStore(t, newDataDir(t)));

const hex = () => randomBytes(16).toString('hex');
const bytes = (text: string) => new Uint8Array(Buffer.from(text));
const mode = (path: string) => (lstatSync(path).mode & 0o7777).toString(8);

test('directories of databases are made 0700 with the first of them, documents 0600, and what is dropped leaves no file', async (t) => {
  const dataDir = newDataDir(t);
  const { sealed } = await openedStore(t, dataDir);
  await sealed.list('', undefined, 1);
  t.false(readdirSync(dataDir).includes('kms-databases'), 'a store without databases looks as it did before there were any');
  const [database, name] = [hex(), hex()];
  await sealed.write(database, bytes('a database'), undefined);
  await sealed.write(`${database}/${name}`, bytes('x'), undefined);
  const root = join(dataDir, 'kms-databases');
  for (const path of [root, join(root, database)]) t.is(mode(path), '700', path);
  for (const path of [join(root, `${database}.database`), join(root, database, name)]) t.is(mode(path), '600', path);
  await sealed.drop(database);
  t.deepEqual(readdirSync(root), []);
});

test('what a crash left of a write is removed before its directory is used, and no other file', async (t) => {
  const dataDir = newDataDir(t);
  const [database, name] = [hex(), hex()];
  const first = await openedStore(t, dataDir);
  await first.sealed.write(database, bytes('a database'), undefined);
  await first.sealed.write(`${database}/${name}`, bytes('x'), undefined);
  await first.close();
  const root = join(dataDir, 'kms-databases');
  for (const left of [
    join(root, `.${database}.database.0123456789abcdef.tmp`),
    join(root, database, `.${name}.0123456789abcdef.tmp`),
  ]) {
    writeFileSync(left, 'torn');
  }
  writeFileSync(join(root, '.somebody'), 'else');
  const { sealed } = await openedStore(t, dataDir);
  t.deepEqual(await sealed.list('', undefined, 10), [database]);
  t.deepEqual(await sealed.list(`${database}/`, undefined, 10), [`${database}/${name}`]);
  t.deepEqual(readdirSync(root).sort(), ['.somebody', database, `${database}.database`].sort());
  t.deepEqual(readdirSync(join(root, database)), [name]);
});

test('a drop that a crash cut short is completed by another one, and nothing of it is listed meanwhile', async (t) => {
  const dataDir = newDataDir(t);
  let broken = true;
  const fileSystem = interceptedFileSystem(({ op, of }, proceed) => {
    if (broken && op === 'unlink' && /^[0-9a-f]{32}$/.test(of)) throw systemError('EACCES', op);
    return proceed();
  });
  const { sealed } = await openedStore(t, dataDir, fileSystem);
  const database = hex();
  await sealed.write(database, bytes('a database'), undefined);
  await sealed.write(`${database}/${hex()}`, bytes('x'), undefined);
  await t.throwsAsync(sealed.drop(database));
  t.deepEqual(await sealed.list('', undefined, 10), []);
  t.is(await sealed.read(database), undefined);
  broken = false;
  await sealed.drop(database);
  t.deepEqual(readdirSync(join(dataDir, 'kms-databases')), []);
});

test('a document is synced before it takes its place, and its directory before the answer', async (t) => {
  const calls: string[] = [];
  const fileSystem = interceptedFileSystem(({ op, of }, proceed) => {
    calls.push(`${op} ${of}`);
    return proceed();
  });
  const { sealed } = await openedStore(t, newDataDir(t), fileSystem);
  const [database, name] = [hex(), hex()];
  await sealed.write(database, bytes('a database'), undefined);
  await sealed.write(`${database}/${name}`, bytes('x'), undefined);
  calls.length = 0;
  await sealed.write(`${database}/${name}`, bytes('y'), bytes('x'));
  const [synced, renamed, last] = [`fsync .${name}.tmp`, `renameSync .${name}.tmp`, `fsync ${database}`].map((call) =>
    calls.lastIndexOf(call),
  );
  t.true(synced! >= 0 && synced! < renamed! && renamed! < last!, calls.join('\n'));
});

test('any number of databases keeps no more than a bounded number of directories open', async (t) => {
  let most = 0;
  const directories = new Set<unknown>();
  const fileSystem = interceptedFileSystem(({ op, of }, proceed, args) => {
    if (op === 'close') directories.delete(args[0]);
    if (op !== 'open' || !/^[0-9a-f]{32}$/.test(of)) return proceed();
    return (proceed() as Promise<number>).then((fd) => {
      directories.add(fd);
      most = Math.max(most, directories.size);
      return fd;
    });
  });
  const { sealed } = await openedStore(t, newDataDir(t), fileSystem);
  const databases = Array.from({ length: MAX_OPEN_DIRECTORIES + 40 }, hex);
  for (const database of databases) {
    await sealed.write(database, bytes('a database'), undefined);
    await sealed.write(`${database}/${hex()}`, bytes('x'), undefined);
  }
  for (const database of databases) t.is((await sealed.list(`${database}/`, undefined, 10)).length, 1);
  t.true(most >= 2 * MAX_OPEN_DIRECTORIES, `${most}: it saw them open`);
  t.true(most <= 2 * MAX_OPEN_DIRECTORIES + 8, `${most} descriptors`);
});
