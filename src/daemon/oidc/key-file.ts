import { type BigIntStats, closeSync, constants, fstatSync, openSync, readSync, type Stats, statSync } from 'node:fs';
import type { JWTVerifyGetKey } from 'jose';
import { KmsError } from '../../errors.js';
import { MAX_JWKS_BYTES, TOKEN_LOOK_MS } from '../../limits.js';
import { errnoOf } from '../../store/file-system.js';
import { isSettled, stampOf } from '../file-stamp.js';
import type { Clock } from '../tokens.js';
import { type KeySet, parseKeySet } from './key-set.js';
import type { Freshness, KeySource } from './key-source.js';

type Jose = typeof import('jose');

function refuse(path: string, reason: string): KmsError {
  return new KmsError('INVALID_ARGUMENT', `${placeOf(path)}: ${reason}`);
}

function placeOf(path: string): string {
  return `oidc.jwks_file: ${path}`;
}

/** Who can write the file says who is admin. It may be a link, as mounted ones are, and read by anybody: it is public. */
function inspect(path: string, stats: Stats): void {
  if (!stats.isFile()) throw refuse(path, 'not a regular file');
  const own = process.geteuid?.() ?? stats.uid;
  if (stats.uid !== own && stats.uid !== 0) throw refuse(path, `belongs to uid ${stats.uid}: chown ${own} ${path}`);
  if ((stats.mode & 0o022) !== 0) throw refuse(path, `may be written by others: chmod go-w ${path}`);
}

function readWhole(fd: number): Buffer {
  const bytes = Buffer.alloc(MAX_JWKS_BYTES + 1);
  let length = 0;
  for (let got = -1; got !== 0 && length < bytes.length; length += got) {
    got = readSync(fd, bytes, length, bytes.length - length, null);
  }
  return bytes.subarray(0, length);
}

/** Throws INVALID_ARGUMENT in one line that names the file. Mode and content are those of one descriptor. */
function readKeyFile(path: string, algorithms: readonly string[]): KeySet {
  let fd: number | undefined;
  try {
    // O_NONBLOCK: a pipe in its place must not hang the daemon.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    inspect(path, fstatSync(fd));
    return parseKeySet(placeOf(path), readWhole(fd), algorithms);
  } catch (error) {
    throw error instanceof KmsError ? error : refuse(path, `cannot be read: ${errnoOf(error) || 'failure'}`);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Undefined where there is none to be had: reading the file then says why. */
function statsOf(path: string): BigIntStats | undefined {
  try {
    return statSync(path, { bigint: true });
  } catch {
    return undefined;
  }
}

/** Keys in a file, which is read again when it has changed. */
export class KeyFile implements KeySource {
  private set: KeySet;
  /** Of the file that was read; undefined if it has to be read in any case. */
  private stamp: string | undefined;
  private lookedAt: number;
  private resolver: JWTVerifyGetKey | undefined;

  /** Throws INVALID_ARGUMENT if the file cannot be had, or holds no key of use. */
  constructor(
    private readonly path: string,
    private readonly algorithms: readonly string[],
    private readonly jose: Promise<Jose>,
    private readonly freshness: Freshness,
    private readonly clock: Clock,
  ) {
    this.set = this.read();
    this.lookedAt = clock.steady();
  }

  readonly keyFor: JWTVerifyGetKey = async (header, token) => {
    this.look();
    if (!this.freshness.isFresh) throw new Error('the keys are stale');
    const { createLocalJWKSet } = await this.jose;
    this.resolver ??= createLocalJWKSet(this.set.document);
    return this.resolver(header, token);
  };

  holds(fingerprint: string): boolean {
    this.look();
    return this.freshness.isFresh && this.set.fingerprints.has(fingerprint);
  }

  sweep(): void {
    this.look();
  }

  lookAgain(): void {
    this.set = this.read();
  }

  /** Every TOKEN_LOOK_MS at most. What is wrong is logged, and the keys there were go on being used for a while. */
  private look(): void {
    const now = this.clock.steady();
    if (now - this.lookedAt < TOKEN_LOOK_MS) return;
    this.lookedAt = now;
    try {
      if (stampOf(statsOf(this.path)) === this.stamp) this.freshness.renew();
      else this.set = this.read();
    } catch (error) {
      this.stamp = undefined;
      this.freshness.fail((error as Error).message);
    }
  }

  private read(): KeySet {
    const stats = statsOf(this.path);
    // Stamped before it is read: of a file that is replaced in between, the next look finds another stamp.
    const set = readKeyFile(this.path, this.algorithms);
    this.stamp = isSettled(stats, this.clock.wall()) ? stampOf(stats) : undefined;
    this.resolver = undefined;
    this.freshness.renew();
    return set;
  }
}
