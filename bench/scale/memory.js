// What a process holds for itself: anonymous pages and locked ones. Pages of files are the kernel's to take back.
import { readFileSync } from 'node:fs';

/** Bytes; undefined of a process that is gone. */
export function memoryOf(pid) {
  let status;
  try {
    status = readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    return undefined;
  }
  const field = (name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) * 1024;
  return { anonymous: field('RssAnon'), locked: field('VmLck'), files: field('RssFile') };
}

const SAMPLE_MS = 20;

/** Looks at a process from now on. `peak()` gives the most that it held of both at once since the last call. */
export function watchMemory(pid) {
  let most = 0;
  const look = () => {
    const now = memoryOf(pid);
    if (now) most = Math.max(most, now.anonymous + now.locked);
  };
  look();
  const timer = setInterval(look, SAMPLE_MS).unref();
  return {
    peak() {
      look();
      const peak = most;
      most = 0;
      return peak;
    },
    stop: () => clearInterval(timer),
  };
}
