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
/** A token that came or went while the file was watched. */
export interface TokenChange {
  tokenId: string;
  change: 'created' | 'changed' | 'revoked';
  roles: readonly string[];
  /** Who made it; of one that is gone nobody knows who took it away. */
  createdBy: string | undefined;
}

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
  /** As the file was when it could be read last; what was there at first is no change. */
  #lastRead: ReadonlyMap<string, Entry> | undefined;
  #lookedAt = Number.NEGATIVE_INFINITY;
  #problem: string | null = null;
  readonly #onChange: (change: TokenChange) => boolean;

  constructor(
    dataDir: string,
    clock: Clock = systemClock,
    system: FileSystem = nodeFileSystem,
    /** Answers whether it could take the change; one that it could not comes again. */
    onChange: (change: TokenChange) => boolean = () => true,
  ) {
    this.#onChange = onChange;
    this.#path = tokenFileOf(dataDir);
    this.#clock = clock;
    this.#system = system;
    // Now, not at the first use: what is made or revoked between the two is a change, too.
    this.#look();
    this.#lookedAt = Number.NEGATIVE_INFINITY;
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
      const isTold = this.#lastRead === undefined || this.#tell(this.#lastRead);
      if (isTold) this.#lastRead = this.#entries;
      this.#stamp = isTold && isSettled(stats, this.#clock.wall()) ? stamp : undefined;
      this.#problem = null;
    } catch (error) {
      this.#entries = new Map();
      this.#stamp = undefined;
      this.#problem = tokenFailure(this.#path, error).message;
    }
  }

  /** False if a change could not be told: whoever is told takes all of one look, or none. */
  #tell(before: ReadonlyMap<string, Entry>): boolean {
    for (const [tokenId, { identity, text }] of this.#entries) {
      const known = before.get(tokenId);
      if (known?.text === text) continue;
      const change = known === undefined ? 'created' : 'changed';
      const { created_by: createdBy } = JSON.parse(text) as StoredToken;
      if (!this.#onChange({ tokenId, change, roles: [...identity.roles], createdBy })) return false;
    }
    for (const [tokenId, { identity }] of before) {
      if (this.#entries.has(tokenId)) continue;
      if (!this.#onChange({ tokenId, change: 'revoked', roles: [...identity.roles], createdBy: undefined })) return false;
    }
    return true;
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
