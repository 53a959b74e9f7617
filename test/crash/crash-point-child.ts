import { writeSync } from 'node:fs';
import { FIRST_USES } from '../../dist/limits.js';
import { embeddedThrough } from './faulty-provider.js';
import { killingFileSystem } from './kill-point.js';

/** Runs one operation and kills its own process at a point of it. A line on standard output is an acknowledgement. */

const [operation = '', dataDir = '', keyFile = '', point = '', cut = '', keyId = ''] = process.argv.slice(2);

function say(...words: Array<string | number>): void {
  writeSync(1, `${words.join(' ')}\n`);
}

let armed = false;
const fileSystem = killingFileSystem(Number(point), cut, () => armed);

armed = operation === 'init';
const kms = await embeddedThrough(fileSystem, { directory: '', dataDir, keyFile, socket: '' });
if (operation === 'init') say('ready');
if (operation === 'stop') for (let use = 0; use < 700; use += 1) kms.encryptSync(keyId, Buffer.alloc(8));
const database = operation.startsWith('database-') ? await kms.openDatabase(Buffer.from(keyId)) : undefined;
const [inside] = (await database?.listKeys())?.keys ?? [];
armed = true;
if (operation === 'new-database') say('made', Buffer.from(await kms.newDatabase()).toString('latin1'));
if (operation === 'database-create') say('created', (await database!.createDekForThread('crash/point')).keyId);
if (operation === 'database-disable') say('done', (await database!.disableKey(inside!.keyId)).state);
if (operation === 'database-default') say('sealed', Buffer.from(await database!.encrypt(Buffer.from('default'))).toString('hex'));
if (operation === 'database-drop') {
  await kms.dropDatabase(database!.databaseId);
  say('dropped');
}
if (operation === 'database-rotate') {
  await kms.rotateKek({ wait: true });
  say('rotated');
}
if (operation === 'create') say('created', (await kms.createDekForThread('crash/point')).keyId);
if (operation === 'default') say('sealed', Buffer.from(await kms.encrypt(Buffer.from('default'))).toString('hex'));
if (operation === 'disable') say('done', (await kms.disableKey(keyId)).state);
if (operation === 'enable') say('done', (await kms.enableKey(keyId)).state);
if (operation === 'destroy') say('done', (await kms.destroyKey(keyId)).state);
for (let use = 1; operation.startsWith('use') && use <= 2 * FIRST_USES + 1; use += 1) {
  if (operation === 'useSync') kms.encryptSync(keyId, Buffer.alloc(8));
  else await kms.encryptWithDek(keyId, Buffer.alloc(8));
  say('used', use);
}
if (operation !== 'stop') process.exit(0);
await kms.close();
say('closed');
