import { writeSync } from 'node:fs';
import { FIRST_USES } from '../../dist/limits.js';
import { CREATE_FLAGS, nodeFileSystem } from '../../dist/store/file-system.js';
import { type Call, interceptedFileSystem } from '../store/intercepted.js';
import { embeddedThrough } from './faulty-provider.js';

/**
 * Runs one operation and kills its own process before the n-th system call that changes the disk, or (`torn`) in the middle
 * of the n-th write. Ends by itself, with exit code 0, if there are fewer. A line on standard output is an acknowledgement.
 */

const CHANGES = new Set(['mkdir', 'write', 'fsync', 'link', 'unlink', 'writeSync', 'fsyncSync', 'renameSync', 'unlinkSync']);

const [operation = '', dataDir = '', keyFile = '', point = '', cut = '', keyId = ''] = process.argv.slice(2);
let armed = false;
let changes = 0;

function say(...words: Array<string | number>): void {
  writeSync(1, `${words.join(' ')}\n`);
}

function counts({ op }: Call, args: unknown[]): boolean {
  if (cut === 'torn') return op.startsWith('write');
  return CHANGES.has(op) || (op.startsWith('open') && args[1] === CREATE_FLAGS);
}

function die(args: unknown[]): never {
  if (cut === 'torn') {
    const [fd, bytes, offset] = args as [number, Uint8Array, number];
    nodeFileSystem.writeSync(fd, bytes.subarray(0, bytes.length >> 1), offset);
  }
  process.kill(process.pid, 'SIGKILL');
  throw new Error('still alive');
}

const fileSystem = interceptedFileSystem((call, proceed, args) => {
  if (armed && counts(call, args)) {
    if (changes === Number(point)) die(args);
    changes += 1;
  }
  return proceed();
});

armed = operation === 'init';
const kms = await embeddedThrough(fileSystem, { directory: '', dataDir, keyFile, socket: '' });
if (operation === 'init') say('ready');
if (operation === 'stop') for (let use = 0; use < 700; use += 1) kms.encryptSync(keyId, Buffer.alloc(8));
armed = true;
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
