import { spawnSync } from 'node:child_process';

/** The calls that change what is on a disk, as Node makes them on Linux. */
export const CALLS = ['fsync', 'rename', 'link', 'unlink', 'write'] as const;
export type DiskCall = (typeof CALLS)[number];

/** Undefined where strace can be used here, else why it cannot. */
export function withoutStrace(): string | undefined {
  const { error, status, stderr } = spawnSync('strace', ['-f', '-qq', '-o', '/dev/null', 'true'], { encoding: 'utf8' });
  if (error !== undefined) return 'there is no strace';
  return status === 0 ? undefined : `strace may not trace here: ${stderr.trim().split('\n')[0]}`;
}

/** Runs a command that is killed as it makes the n-th call of this kind on one of its threads, before that is done. */
export function killedAt(call: DiskCall, nth: number): string[] {
  return [
    'strace',
    '-D',
    '-f',
    '-qq',
    '-o',
    '/dev/null',
    '-e',
    `trace=${call}`,
    '-e',
    `inject=${call}:signal=SIGKILL:when=${nth}`,
  ];
}
