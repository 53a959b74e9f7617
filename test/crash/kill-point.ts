import { CREATE_FLAGS, type FileSystem, nodeFileSystem } from '../../dist/store/file-system.js';
import { type Call, interceptedFileSystem } from '../store/intercepted.js';

const CHANGES = new Set([
  'mkdir',
  'write',
  'fsync',
  'link',
  'rename',
  'unlink',
  'rmdir',
  'writeSync',
  'fsyncSync',
  'renameSync',
  'unlinkSync',
]);

/**
 * A file system that kills this process before the n-th system call that changes the disk, or (`torn`) in the middle of the n-th
 * write. The process ends by itself if there are fewer. Calls are counted while it is armed.
 */
export function killingFileSystem(point: number, cut: string, isArmed: () => boolean): FileSystem {
  let changes = 0;
  return interceptedFileSystem((call, proceed, args) => {
    if (isArmed() && counts(call, args, cut)) {
      if (changes === point) die(args, cut);
      changes += 1;
    }
    return proceed();
  });
}

function counts({ op }: Call, args: unknown[], cut: string): boolean {
  if (cut === 'torn') return op.startsWith('write');
  return CHANGES.has(op) || (op.startsWith('open') && args[1] === CREATE_FLAGS);
}

function die(args: unknown[], cut: string): never {
  if (cut === 'torn') {
    const [fd, bytes, offset] = args as [number, Uint8Array, number];
    nodeFileSystem.writeSync(fd, bytes.subarray(0, bytes.length >> 1), offset);
  }
  process.kill(process.pid, 'SIGKILL');
  throw new Error('still alive');
}
