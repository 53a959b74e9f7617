import { randomBytes, timingSafeEqual } from 'node:crypto';
import { lstatSync } from 'node:fs';
import { TOKEN_LOOK_MS } from '../limits.js';
import { type FileSystem, nodeFileSystem } from '../store/file-system.js';
import { isSettled, stampOf } from './file-stamp.js';
import type { Identity } from './identity.js';
import type { StoredToken } from './token-document.js';
import { readTokenFile, tokenFailure, tokenFileOf } from './token-file.js';
import { readToken } from './token-text.js';

/** Both in milliseconds. */
export interface Clock {
  /** Since 1970, as people set it. */
  wall(): number;
  /** Never set. */
  steady(): number;
}

interface Entry {
  /** Its actor is `token:<token id>`. */
  identity: Identity;
  sha256: Buffer;
  /** From which time on it is refused. */
  expires: number;
  /** The token as it stands in the file: the same text again is the same token. */
  text: string;
}

export const systemClock: Clock = { wall: () => Date.now(), steady: () => performance.now() };
/** What the hash of an unknown token is compared with: nobody knows what hashes to it. */
const NOBODY = randomBytes(32);

/**
 * The access tokens of a data directory as they are now, without a restart: the file is looked at again when a token is used, at
 * most every TOKEN_LOOK_MS. A file that cannot be read or breaks a rule refuses every token until it is mended; none is none.
 */
export class Tokens {
  // Truly private, so that what prints an object does not print hashes.
  readonly #path: string;
  readonly #clock: Clock;
  readonly #system: FileSystem;
  #entries: ReadonlyMap<string, Entry> = new Map();
  /** Of the file that `entries` were read from; undefined if it has to be read in any case. */
  #stamp: string | undefined;
  #lookedAt = Number.NEGATIVE_INFINITY;
  #problem: string | null = null;

  constructor(dataDir: string, clock: Clock = systemClock, system: FileSystem = nodeFileSystem) {
    this.#path = tokenFileOf(dataDir);
    this.#clock = clock;
    this.#system = system;
  }

  /** Who presents `text`; undefined for a token that is malformed, unknown, revoked or expired, which all look alike. */
  identify(text: string): Identity | undefined {
    this.#look();
    const presented = readToken(text);
    if (presented === undefined) return undefined;
    const entry = this.#entries.get(presented.tokenId);
    // One comparison of the same length whether the id is known or not: the time tells neither that nor how much was right.
    const isRight = timingSafeEqual(presented.sha256, entry?.sha256 ?? NOBODY);
    return entry !== undefined && isRight && this.#isAlive(entry) ? entry.identity : undefined;
  }

  /** Whether an identity of `identify` still holds: for connections, which outlive a revocation and an expiry. */
  isCurrent(identity: Identity): boolean {
    this.#look();
    const entry = this.#entries.get(identity.actor.slice('token:'.length));
    return entry !== undefined && entry.identity === identity && this.#isAlive(entry);
  }

  /** Why every token is refused; null if that is not so. */
  fault(): string | null {
    this.#look();
    return this.#problem;
  }

  /** How many tokens are in force. */
  count(): number {
    this.#look();
    return [...this.#entries.values()].filter((entry) => this.#isAlive(entry)).length;
  }

  #isAlive({ expires }: Entry): boolean {
    return this.#clock.wall() < expires;
  }

  #look(): void {
    const now = this.#clock.steady();
    if (now - this.#lookedAt < TOKEN_LOOK_MS) return;
    this.#lookedAt = now;
    try {
      const stats = lstatSync(this.#path, { bigint: true, throwIfNoEntry: false });
      // Taken before the file is read: of one that is replaced in between, the next look finds another stamp.
      const stamp = stampOf(stats);
      if (stamp === this.#stamp) return;
      this.#entries = this.#entriesOf(stats === undefined ? [] : readTokenFile(this.#system, this.#path, 'daemon'));
      this.#stamp = isSettled(stats, this.#clock.wall()) ? stamp : undefined;
      this.#problem = null;
    } catch (error) {
      this.#entries = new Map();
      this.#stamp = undefined;
      this.#problem = tokenFailure(this.#path, error).message;
    }
  }

  /** A token that stayed as it was keeps its identity: whoever holds it goes on. */
  #entriesOf(tokens: readonly StoredToken[]): ReadonlyMap<string, Entry> {
    return new Map(
      tokens.map((token) => {
        const text = JSON.stringify(token);
        const known = this.#entries.get(token.token_id);
        return [token.token_id, known?.text === text ? known : entryOf(token, text)];
      }),
    );
  }
}

function entryOf(token: StoredToken, text: string): Entry {
  return {
    identity: {
      actor: `token:${token.token_id}`,
      roles: new Set(token.roles),
      ...(token.thread_prefixes !== undefined && { threadPrefixes: token.thread_prefixes }),
      ...(token.own === true && { own: true }),
    },
    sha256: Buffer.from(token.sha256, 'hex'),
    expires: token.expires_at === null ? Number.POSITIVE_INFINITY : Date.parse(token.expires_at),
    text,
  };
}
