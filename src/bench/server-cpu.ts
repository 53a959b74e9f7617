import { readFileSync } from 'node:fs';

/** What /proc counts in: USER_HZ, which is 100 on every architecture Node runs on. */
const TICK_NS = 1e9 / 100;

/** CPU nanoseconds that a process has used; undefined where that cannot be told. */
export function cpuNsOf(pid: number | undefined): number | undefined {
  if (process.platform !== 'linux' || pid === undefined) return undefined;
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // Behind the command's name, in which anything may be: state, then ten more, user and system time (proc_pid_stat(5)).
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) * TICK_NS;
  } catch {
    return undefined;
  }
}
