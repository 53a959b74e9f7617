import { basename } from 'node:path';
import { type FileSystem, nodeFileSystem } from '../../dist/store/file-system.js';
import { appendedBy } from './appended.js';

/** One call of the port: `of` is the file's name, a temporary one without its random part. */
export interface Call {
  op: string;
  of: string;
}

export type Intercept = (call: Call, proceed: () => unknown, args: unknown[]) => unknown;

/** A file system, the real one unless told, with every call handed to `intercept`, which may look, fail, shorten or delay it. */
export function interceptedFileSystem(intercept: Intercept, inner: FileSystem = nodeFileSystem): FileSystem {
  const names = new Map<number, string>();
  const named = (path: string) => basename(path).replace(/\.[0-9a-f]{16}\.tmp$/, '.tmp');
  const system: FileSystem = new Proxy(inner, {
    get(target, property: keyof FileSystem) {
      if (property === 'append') return (fd: number, bytes: Uint8Array, path: string) => appendedBy(system, fd, bytes, path);
      const real = (target[property] as (...args: unknown[]) => unknown).bind(target);
      if (property === 'effectiveUid') return real;
      return (...args: unknown[]) => {
        const of = typeof args[0] === 'string' ? named(args[0]) : (names.get(args[0] as number) ?? '?');
        const opened = (fd: number) => names.set(fd, of) && fd;
        const proceed = () => {
          const result = real(...args);
          if (property === 'open') return (result as Promise<number>).then(opened);
          return property === 'openSync' ? opened(result as number) : result;
        };
        if (property.endsWith('Sync')) return intercept({ op: property, of }, proceed, args);
        return (async () => intercept({ op: property, of }, proceed, args))();
      };
    },
  });
  return system;
}

/** What the system call `op` throws for `errno`. */
export function systemError(errno: string, op: string): NodeJS.ErrnoException {
  const syscall = op.replace('Sync', '');
  return Object.assign(new Error(`${errno}: injected, ${syscall}`), { code: errno, syscall });
}
