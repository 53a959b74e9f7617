import { randomInt } from 'node:crypto';
import type { Stats } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { KmsError } from '../errors.js';
import { MAX_TOKEN_DAYS, TOKEN_LOCK_WAIT_MS } from '../limits.js';
import { binding } from '../native.js';
import { DIRECTORY_MODE, giveLock, ownerToKeep, refuseWider, removeLeftovers } from '../store/data-directory.js';
import { DurableDirectory } from '../store/durable-directory.js';
import { errnoOf, type FileSystem, nodeFileSystem } from '../store/file-system.js';
import { Turnstile } from '../store/turnstile.js';
import { WriteLatch } from '../store/write-latch.js';
import type { Role } from '../wire/frames.js';
import { brokenRule, type StoredToken, tokensJson } from './token-document.js';
import { readTokenFile, TOKEN_FILE, tokenFailure, tokenFileOf } from './token-file.js';
import { makeToken } from './token-text.js';

const LOCK_FILE = 'tokens.lock';
const LEFTOVER = /^\.tokens\.json\.[0-9a-f]{16}\.tmp$/;
/** How long one waits before it tries the lock again, at least and at most: two that wait should not wake together. */
const RETRY_MS = [2, 20] as const;

const DAY_MS = 24 * 3_600_000;

export interface NewToken {
  roles: readonly Role[];
  /** For people; empty unless given. */
  name?: string;
  /** Milliseconds until it expires, at most MAX_TOKEN_DAYS; never unless given. */
  lifeMs?: number;
  /** Only keys of threads whose id begins with one of these. */
  threadPrefixes?: readonly string[];
  /** Only keys that the token itself made. */
  own?: boolean;
  /** The actor who makes it; the user of this process unless given. */
  createdBy?: string;
}

export interface MadeToken {
  tokenId: string;
  /** The text to present. It is nowhere else, and cannot be had again. */
  token: string;
}

/** What may be shown of a token. */
export interface TokenDescription {
  tokenId: string;
  name: string;
  roles: readonly Role[];
  createdAt: string;
  createdBy: string;
  expiresAt: string | null;
  threadPrefixes: readonly string[] | null;
  own: boolean;
}

/**
 * Makes a token; when the promise resolves, a running daemon takes it and it is durable. INVALID_ARGUMENT for a member that
 * docs/FORMATS.md does not allow, CONFLICT where there are too many.
 */
export async function createToken(dataDir: string, wanted: NewToken, system: FileSystem = nodeFileSystem): Promise<MadeToken> {
  const { lifeMs = 1 } = wanted;
  if (!(Number.isSafeInteger(lifeMs) && lifeMs > 0 && lifeMs <= MAX_TOKEN_DAYS * DAY_MS)) {
    throw new KmsError('INVALID_ARGUMENT', `a token lives at most ${MAX_TOKEN_DAYS} days`);
  }
  const { token, tokenId, sha256 } = makeToken();
  const stored = storedOf(wanted, tokenId, sha256, system);
  const fault = brokenRule(stored);
  if (fault !== undefined) throw new KmsError('INVALID_ARGUMENT', fault);
  await change(dataDir, system, (tokens) => [...tokens, stored]);
  return { tokenId, token };
}

function storedOf(wanted: NewToken, tokenId: string, sha256: Buffer, system: FileSystem): StoredToken {
  const now = Date.now();
  const { roles, name = '', lifeMs, threadPrefixes, own, createdBy = `uid:${system.effectiveUid()}` } = wanted;
  return {
    token_id: tokenId,
    name,
    sha256: sha256.toString('hex'),
    roles: [...roles],
    created_at: new Date(now).toISOString(),
    created_by: createdBy,
    expires_at: lifeMs === undefined ? null : new Date(now + lifeMs).toISOString(),
    ...(threadPrefixes !== undefined && { thread_prefixes: [...threadPrefixes] }),
    ...(own === true && { own }),
  };
}

/** Takes a token away, durably; a running daemon refuses it from its next look on. INVALID_ARGUMENT if there is none. */
export async function revokeToken(dataDir: string, tokenId: string, system: FileSystem = nodeFileSystem): Promise<void> {
  await change(dataDir, system, (tokens) => {
    const left = tokens.filter((token) => token.token_id !== tokenId);
    if (left.length === tokens.length) throw new KmsError('INVALID_ARGUMENT', 'there is no token of this id');
    return left;
  });
}

/** All tokens, expired ones too, in the order in which they were made. Never their hashes. */
export async function listTokens(dataDir: string, system: FileSystem = nodeFileSystem): Promise<TokenDescription[]> {
  await directoryStats(system, dataDir);
  return readTokenFile(system, tokenFileOf(dataDir), 'command').map((token) => ({
    tokenId: token.token_id,
    name: token.name,
    roles: token.roles,
    createdAt: token.created_at,
    createdBy: token.created_by,
    expiresAt: token.expires_at,
    threadPrefixes: token.thread_prefixes ?? null,
    own: token.own === true,
  }));
}

type Step = (tokens: StoredToken[]) => StoredToken[];

/**
 * The one way in which the file changes: lock, read, temporary file, fsync, rename, fsync of the directory, unlock. The lock is a
 * flock of its own: a daemon keeps the directory's for as long as it runs, and a flock goes with its process, so that a killed
 * command leaves nothing to be recovered and no lock has to be judged stale.
 *
 * Killed before the rename, the old file is whole; what lies beside it is removed by the next change, under the same lock, and
 * by nobody else. Killed between the rename and the answer, the change is there although nobody was told: a made token's text
 * went with the process, so that nobody can present it, and it stands in the list to be revoked; a revoked token is refused,
 * which is what was wanted. A daemon may meet the new file before it is durable. If power fails then, a new token is gone, which
 * nobody was told of, and a revoked one is back, of which nobody was told either that it was revoked.
 */
async function change(dataDir: string, system: FileSystem, step: Step): Promise<void> {
  const stats = await directoryStats(system, dataDir);
  const lock = await locked(join(dataDir, LOCK_FILE));
  try {
    const owner = ownerToKeep(system, stats);
    if (owner !== undefined) await giveLock(system, join(dataDir, LOCK_FILE), owner);
    await removeLeftovers(system, dataDir, LEFTOVER);
    const path = tokenFileOf(dataDir);
    const bytes = tokensJson(path, step(readTokenFile(system, path, 'command')));
    const directory = await DurableDirectory.open(dataDir, system, new WriteLatch(), new Turnstile(1));
    try {
      directory.replaceSync(await directory.stage(TOKEN_FILE, bytes), TOKEN_FILE);
      await directory.sync();
    } finally {
      await directory.close();
    }
  } catch (error) {
    throw tokenFailure(dataDir, error);
  } finally {
    binding.unlock(lock);
  }
}

/** Refuses a directory that is not there: a mistyped one must not get tokens that no daemon ever reads. */
async function directoryStats(system: FileSystem, dataDir: string): Promise<Stats> {
  try {
    const stats = await system.stat(dataDir);
    if (!stats.isDirectory()) throw new KmsError('STORE_UNAVAILABLE', `${dataDir} is not a directory`);
    refuseWider(system, dataDir, stats, DIRECTORY_MODE);
    return stats;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') throw new KmsError('STORE_UNAVAILABLE', `there is no ${dataDir}`);
    throw tokenFailure(dataDir, error);
  }
}

/** Tries instead of waiting in the kernel: this thread may have other things to do. */
async function locked(path: string): Promise<number> {
  const until = performance.now() + TOKEN_LOCK_WAIT_MS;
  for (;;) {
    try {
      return binding.lockFile(path);
    } catch (error) {
      if (!(error instanceof KmsError && error.code === 'CONFLICT') || performance.now() > until) throw error;
    }
    await sleep(randomInt(...RETRY_MS));
  }
}
