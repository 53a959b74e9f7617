import { closeSync, openSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { APPEND_FLAGS, NEW_LOG_FLAGS, nodeFileSystem } from '../../dist/store/file-system.js';
import { newDataDir } from './data-dir.js';

/** An open log, and its path. */
function newLog(t: ExecutionContext) {
  const path = join(newDataDir(t), 'log');
  const fd = openSync(path, NEW_LOG_FLAGS, 0o600);
  t.teardown(() => closeSync(fd));
  return { path, fd };
}

test('what is appended stands at the end, however long it is', async (t) => {
  const { path, fd } = newLog(t);
  const long = Buffer.alloc(3 * 1024 * 1024, 'x');
  const first = nodeFileSystem.append(fd, Buffer.from('first\n'), path);
  t.deepEqual(await first, { written: 6, isInPlace: true });
  t.deepEqual(await nodeFileSystem.append(fd, long, path), { written: long.length, isInPlace: true });
  t.true(readFileSync(path).equals(Buffer.concat([Buffer.from('first\n'), long])));
});

test('only the part of a buffer that was given is appended', async (t) => {
  const { path, fd } = newLog(t);
  await nodeFileSystem.append(fd, Buffer.from('not this, this').subarray(10), path);
  t.is(readFileSync(path, 'utf8'), 'this');
});

test('lines for a log that was renamed are told not to be in it', async (t) => {
  const { path, fd } = newLog(t);
  renameSync(path, `${path}.1`);
  t.deepEqual(await nodeFileSystem.append(fd, Buffer.from('line\n'), path), { written: 5, isInPlace: false });
});

test('what ended an append is told as by the call that failed', async (t) => {
  const fd = openSync('/dev/full', APPEND_FLAGS);
  t.teardown(() => closeSync(fd));
  const { written, error } = await nodeFileSystem.append(fd, Buffer.from('line\n'), '/dev/full');
  t.is(written, 0);
  t.like(error, { code: 'ENOSPC', syscall: 'write' });
  const closed = await nodeFileSystem.append(1_000_000, Buffer.from('line\n'), '/dev/full');
  t.like(closed.error, { code: 'EBADF', syscall: 'write' });
});

test('what cannot be appended at all is refused', async (t) => {
  await t.throwsAsync(() => nodeFileSystem.append(1, 'line' as unknown as Uint8Array, ''), { code: 'INVALID_ARGUMENT' });
});
