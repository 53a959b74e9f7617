import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** Nothing but a sync brings data to the device within the time of a test. */
const OPTIONS = 'loop,commit=300,lazytime';
const SETTLE_MS = 5;
const MOST_COPIES = 200;

function run(command: string, ...args: string[]): string {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
  } catch (error) {
    const { stderr = '', message } = error as { stderr?: string; message: string };
    throw new Error(`${command}: ${stderr.trim().split('\n')[0] || message}`, { cause: error });
  }
}

/**
 * An ext4 of its own in a file. The file holds what reached the device, not what the kernel keeps in memory: a copy of it is the
 * disk after a power cut at that instant.
 */
export class DiskImage {
  readonly path: string;
  readonly #file: string;

  private constructor(file: string, path: string) {
    this.#file = file;
    this.path = path;
  }

  /** Throws with the reason where this may not be had: without root, loop devices, or the tools. */
  static make(directory: string, megabytes: number): DiskImage {
    const file = join(directory, 'disk.img');
    writeFileSync(file, '');
    truncateSync(file, megabytes * 1024 * 1024);
    run('mkfs.ext4', '-q', '-F', '-N', '32768', file);
    return DiskImage.#mounted(file, join(directory, 'disk'));
  }

  static #mounted(file: string, path: string): DiskImage {
    mkdirSync(path, { recursive: true });
    run('mount', '-o', OPTIONS, file, path);
    return new DiskImage(file, path);
  }

  /** The device as it is while nothing writes to it, mounted as after a power cut. The processes on it must have been stopped. */
  async afterPowerCut(directory: string): Promise<DiskImage> {
    const stat = `/sys/block/${run('losetup', '-n', '-O', 'NAME', '-j', this.#file).split('/').at(-1)}/stat`;
    const copy = join(directory, 'copy.img');
    for (let tries = 0; tries < MOST_COPIES; tries += 1) {
      await delay(SETTLE_MS);
      const before = readFileSync(stat, 'utf8').trim().split(/ +/);
      copyFileSync(this.#file, copy);
      const after = readFileSync(stat, 'utf8').trim().split(/ +/);
      // Writes completed, sectors written, and how many are in flight.
      const isQuiet = before[8] === '0' && [4, 6, 8].every((field) => before[field] === after[field]);
      if (isQuiet) return DiskImage.#mounted(copy, join(directory, 'copy'));
    }
    throw new Error('the device does not come to rest');
  }

  remove(): void {
    run('umount', this.path);
    rmSync(this.#file);
  }
}
