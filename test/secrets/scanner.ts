import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { Needle } from './needles.js';

export interface Hit {
  needle: string;
  address: string;
  /** Permissions and name of the mapping. */
  mapping: string;
  /** Hex of up to 64 bytes before it, and of it and up to 64 bytes after it. */
  before: string;
  from: string;
}

export interface Scan {
  hits: Hit[];
  /** Sizes of the key arenas that were left out. */
  arenas: number[];
  /** Mappings that the kernel did not let anybody read. */
  unread: string[];
  bytes: number;
}

/** Why memory cannot be looked at here; undefined if it can. */
export function scanningHindrance(): string | undefined {
  if (process.platform !== 'linux') return 'needs /proc of Linux';
  if (process.geteuid?.() !== 0) return 'needs root to read the memory of a hardened process';
  return undefined;
}

/** Says it where nobody overlooks it, and lets the test pass. True if the test has to end here. */
export function skipped(t: ExecutionContext, hindrance: string | undefined): boolean {
  if (hindrance === undefined) return false;
  t.log(`SKIPPED, NOTHING WAS TESTED: ${hindrance}`);
  t.pass();
  return true;
}

export class Scanner {
  private constructor(private readonly directory: string) {}

  static build(): Scanner {
    const directory = mkdtempSync(join(tmpdir(), 'kms-scan-'));
    execFileSync('g++', ['-std=c++17', '-O2', '-o', join(directory, 'memory-scan'), resolve('test/secrets/memory-scan.cc')]);
    return new Scanner(directory);
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Looks through the memory of a child of ours while it stands still. */
  async scan(pid: number, needles: readonly Needle[]): Promise<Scan> {
    process.kill(pid, 'SIGSTOP');
    try {
      return await this.run(pid, needles);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
  }

  private run(pid: number, needles: readonly Needle[]): Promise<Scan> {
    return new Promise((done, fail) => {
      const options = { maxBuffer: 64 * 1024 * 1024 };
      const child = execFile(join(this.directory, 'memory-scan'), [String(pid)], options, (error, stdout) => {
        if (error !== null) fail(error);
        else done(JSON.parse(stdout) as Scan);
      });
      child.stdin?.end(needles.map(({ name, bytes }) => `${name} ${bytes.toString('hex')}\n`).join(''));
    });
  }
}

/** One line per place, for a failure that has to be traced. */
export function describe(hits: readonly Hit[]): string {
  const lines = hits
    .slice(0, 20)
    .map((hit) => `${hit.needle} at ${hit.address} in ${hit.mapping}\n  ${hit.before} | ${hit.from}`);
  return [`${hits.length} hits`, ...lines].join('\n');
}

/** Whose form it is. */
export function secretOf({ needle }: Hit): string {
  return needle.split('/')[0]!;
}

export function found(hits: readonly Hit[]): string[] {
  return [...new Set(hits.map(secretOf))].sort();
}
