import { createRequire } from 'node:module';
import { dirname, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ERROR_TABLE, KmsError } from './errors.js';
import type { Acceptor, AcceptorEvents, HeldSocket, InheritedAcceptor, Peer, TcpAcceptor } from './listening.js';
import type { KeyMeta, KeyringDocument } from './store/key-store.js';

/** An unwrapped key in the native arena: slot and generation in one opaque number. Stale ones are refused, never reused. */
export type Handle = number;
declare const trust: unique symbol;
/** Authorities and revocation lists, read. */
export type Trust = { readonly [trust]: never };
/** A namespace of keys in the arena; one per opened store. 0 is none. */
export type Space = number;

export type Protection = 'secretmem' | 'mlock' | 'none';
/** `half`: what a client or the server has of a database's key. */
export type Kind = 'master' | 'slot' | 'root' | 'kek' | 'mac' | 'dek' | 'signing' | 'half';
/** The lines of one epoch of an audit log. */
export type Chain = number;
/** The last line of a chain: its number, and the SHA-256 of it without its line feed. */
export interface ChainHead {
  seq: number;
  prev: Uint8Array;
}

export interface ArenaInfo {
  protection: Protection;
  arenaBytes: number;
  /** Keys the arena can hold, and holds. */
  capacity: number;
  used: number;
  /** RLIMIT_MEMLOCK in bytes, Infinity if unlimited. */
  memlockLimit: number;
  openssl: string;
}

/** Negative results of the hot calls that are not error codes of the table. */
export const NOT_CACHED = -100;
export const NEEDS_USES = -101;
export const NOT_COVERED = -102;
/** As many events wait for their lines as may: some have to be taken first. */
export const NEEDS_AUDIT = -103;

/** How encryptions and decryptions come into the audit log: in groups, each with a line of its own, or not. */
export type DataOperations = 'off' | 'grouped' | 'each';
/** Where a call has to name somebody: the space's own actor. */
export const OWN_ACTOR = 2 ** 32 - 2;
/** For what is no use of a key although it goes the same way. */
export const UNAUDITED = 2 ** 32 - 1;

/**
 * Positions in the report of `serveChunk`. `units` says before the call for how many there is room, `NO_LIMIT` for any number,
 * and after it how many were served or deferred; `busy` how many frames were refused for want of room.
 */
export const REPORT = { consumed: 0, written: 1, flags: 2, deferred: 3, served: 4, units: 5, busy: 6, first: 7 } as const;
export const NO_LIMIT = 2 ** 31 - 1;
/** Each deferred frame: offset and length of its body (without the length field), and why. */
export const DEFERRED_FIELDS = 3;
export const MAX_DEFERRED = 256;
export const REPORT_LENGTH = REPORT.first + DEFERRED_FIELDS * MAX_DEFERRED;
export const FLAG = { plaintextWritten: 1, outputFull: 2, protocolError: 4 } as const;
export const DEFERRED = { cold: 0, notCached: 1, needsUses: 2, large: 3, notCovered: 4, audit: 5 } as const;
/** Bits of `serveChunk`'s `bits`. */
export const BIT = { client: 1, sealed: 2, unknown: 4, cold: 8, full: 16, untimed: 32 } as const;
/** From this bit on, the number of the peer's policy; 0 is none. */
export const POLICY_SHIFT = 8;

/** Operations of `readCounts`: encrypt, decrypt, encrypt_many, decrypt_many, and last what names none of them. */
const COUNTED_OPERATIONS = 5;
/** `ok`, then the errors by their wire codes. */
const COUNTED_OUTCOMES = 1 + Object.keys(ERROR_TABLE).length;
/** Up to 10 µs, 20 µs, 40 µs … 10.5 s, and above. */
export const TIME_BUCKETS = 22;
const TIMES_AT = COUNTED_OPERATIONS * COUNTED_OUTCOMES;
const NANOSECONDS_AT = TIMES_AT + COUNTED_OPERATIONS * TIME_BUCKETS;
const HITS = NANOSECONDS_AT + COUNTED_OPERATIONS;
/** Positions in the result of `readCounts`: outcomes by operation, times by operation, their sums, and what the key table counts. */
export const COUNTS = {
  operations: COUNTED_OPERATIONS,
  outcomes: COUNTED_OUTCOMES,
  timesAt: TIMES_AT,
  nanosecondsAt: NANOSECONDS_AT,
  hits: HITS,
  misses: HITS + 1,
  evictedForRoom: HITS + 2,
  evictedIdle: HITS + 3,
  contexts: HITS + 4,
  length: HITS + 5,
} as const;

/** The last are `NOT_CACHED`, `NEEDS_USES` or `NEEDS_AUDIT`, and the input. */
export type PoolResult = Uint8Array | number | [wanted: number, input: Uint8Array];

/** The addon. Cold calls throw `KmsError`; the hot ones return a count, or a negative status. Inputs named `secret` are wiped. */
export interface Binding {
  /** Gives the addon the error class, and the `doorbell`; returns the native copy of the code table for the tests. */
  bind(errorClass: typeof KmsError, doorbell: Int32Array): Record<string, number>;

  // Process
  /** Makes the arena, once per process: the first call's sizes stay. Runs the self-test of the cipher. */
  initialise(arenaBytes: number, keptContexts: number): ArenaInfo;
  arenaInfo(): ArenaInfo;
  /** RLIMIT_CORE 0, not dumpable, SIGUSR1 ignored. */
  hardenProcess(): void;
  lockDirectory(path: string): number;
  /** The file at `path`, made (0600) if absent; CONFLICT while another process or call holds it. */
  lockFile(path: string): number;
  unlock(lock: number): void;
  /** FileSystem's `append`, with an errno for its error. `lines` are read until it is over. */
  appendToLog(fd: number, lines: Uint8Array, path: string): Promise<{ written: number; errno: number; isInPlace: boolean }>;
  /** Of a Unix socket; UNAUTHENTICATED for any other. */
  peerOf(fd: number): Peer;
  /** Gives a connected Unix socket room for 256 requests of 1 KiB to be sent at once. */
  widenFd(fd: number): void;
  closeFd(fd: number): void;
  listenUnix(path: string, mode: number, firstByteTimeoutMs: number, events: AcceptorEvents): Acceptor;
  /**
   * `host` is a numeric address, IPv4 or IPv6 without a scope, and `port` 0 lets the kernel choose. CONFLICT if it is in use,
   * PERMISSION_DENIED for a port that this user may not have, INVALID_ARGUMENT for what is no address of this machine.
   */
  listenTcp(host: string, port: number, firstByteTimeoutMs: number, events: AcceptorEvents): TcpAcceptor;
  /** Binds and listens as `listenUnix` does, and accepts nobody: a process that is handed `fd` does (LISTEN_FDS). */
  holdUnix(path: string, mode: number): HeldSocket;
  /**
   * Takes over a listening socket that another process has bound and left to us (LISTEN_FDS), Unix or TCP; it does not block
   * and is closed on exec from here. INVALID_ARGUMENT for anything else, and then the descriptor is still the caller's.
   */
  listenFd(fd: number, firstByteTimeoutMs: number, events: AcceptorEvents): InheritedAcceptor;
  /** One message of sd_notify(3) to the socket in NOTIFY_SOCKET. Waits at most `waitMs` for a manager that does not read. */
  notifyManager(address: string, message: string, waitMs: number): void;

  // Keys
  openSpace(cachedKeys: number): Space;
  /** Wipes every key of the space; the answer follows the last wipe. */
  closeSpace(space: Space): void;
  generateKey(space: Space, kind: Kind): Handle;
  /** `mayBeGroupReadable` for files in $CREDENTIALS_DIRECTORY or by configuration. */
  readKeyFile(space: Space, path: string, mayBeGroupReadable: boolean): Handle;
  readKeyDescriptor(space: Space, fd: number): Handle;
  /** Writes 64 hex digits and a newline to a new file (0600), durable; for `init`. Never overwrites. */
  writeKeyFile(path: string): void;
  importKey(space: Space, kind: Kind, secret: Uint8Array): Handle;
  /** Only DEKs: for `exposeRawKeys`. */
  exportKey(dek: Handle): Uint8Array;
  deriveKey(from: Handle, salt: Uint8Array, info: Uint8Array, kind: Kind): Handle;
  wrapKey(under: Handle, key: Handle, aad: Uint8Array): Uint8Array;
  unwrapKey(under: Handle, wrapped: Uint8Array, aad: Uint8Array, kind: Kind): Handle;
  /** A DEK of the original: under the master key itself, without AAD. Takes only a master key. */
  unwrapOriginal(master: Handle, wrapped: Uint8Array): Handle;
  hmac(key: Handle, data: Uint8Array): Uint8Array;
  verifyHmac(key: Handle, data: Uint8Array, mac: Uint8Array): boolean;
  sameKey(a: Handle, b: Handle): boolean;
  releaseKey(key: Handle): void;

  // Cached DEKs
  /** Puts a DEK under its id; `uses` are added to what the id has left. Returns the handle that serves (an earlier one wins). */
  publishKey(space: Space, dek: Handle, keyId: string, kekVersion: number, uses: number): Handle;
  /** 0 if it is not cached. */
  findKey(space: Space, keyId: string): Handle;
  kekVersionOf(dek: Handle): number;
  /** Wipes the key; `disabled` and `destroyed` stay as answers. Returns after the last wipe. */
  retireKey(space: Space, keyId: string, state: 'evicted' | 'disabled' | 'destroyed'): void;
  /** Evicts every cached key. When it returns, what was begun with one has ended, on the pool too, and its audit event waits. */
  retireKeys(space: Space): void;
  grantUses(space: Space, keyId: string, uses: number): void;
  /** A number that no policy of this process had before, below 2^23; 0 when there are no more. */
  newPolicy(): number;
  /** From here on a cached key serves peers of that policy; it forgets that when it is evicted. */
  coverKey(space: Space, keyId: string, policy: number): void;
  /** Ids whose reserved uses are half gone; each is named once per grant. */
  takeUseRequests(space: Space): string[];
  /** Takes back, per id, what was granted and not used; threads' sub-blocks are called in. */
  takeUnusedUses(space: Space): Array<[keyId: string, uses: number]>;
  cachedKeys(space: Space): number;
  /** What all threads of the process have counted since it began; where what lies is in `COUNTS`. */
  readCounts(): Float64Array;
  /** Wipes contexts and keys not used for that many sweeps; 0 leaves them. */
  sweep(contextSweeps: number, keySweeps: number): void;

  // Hot
  // `actor`, where it is asked for, is who uses the key: a number of `auditActor`, or absent for the space's own. While the space's
  // data operations cannot be written all of them answer AUDIT_UNAVAILABLE.
  // Of arrays of another type than Uint8Array these two take as many bytes as there are elements: the callers check.
  /** Bytes written to `out` at `offset`, or a negative status. */
  encryptInto(
    dek: Handle,
    plaintext: Uint8Array,
    aad: Uint8Array | undefined,
    out: Uint8Array,
    offset: number,
    actor?: number,
  ): number;
  decryptInto(
    dek: Handle,
    ciphertext: Uint8Array,
    aad: Uint8Array | undefined,
    out: Uint8Array,
    offset: number,
    actor?: number,
  ): number;
  /**
   * The same on the pool, for large messages: the result in memory of its own that wipes itself, or a negative status. With what a
   * message wants first it is given back, as it was when it was given.
   */
  encryptOnPool(dek: Handle, plaintext: Uint8Array, aad: Uint8Array | undefined, actor?: number): Promise<PoolResult>;
  /** An empty plaintext comes as the number 0. */
  decryptOnPool(dek: Handle, ciphertext: Uint8Array, aad: Uint8Array | undefined, actor?: number): Promise<PoolResult>;
  /**
   * Walks the frames in input[start, end): answers ops 2 to 5 into `output`, names every other frame in `report`, wipes the
   * plaintext it sealed. Unfinished frames are left: `report[consumed]` says where they begin.
   */
  serveChunk(
    space: Space,
    bits: number,
    actor: number,
    input: Uint8Array,
    start: number,
    end: number,
    output: Uint8Array,
    report: Int32Array,
  ): void;
  /**
   * The same for frames that an earlier walk over `input` has deferred: `listed` holds entries as a report does, of which those from
   * `from` to `to` are served. `report[consumed]` says which is the next; what is deferred again is in the new report.
   */
  serveListed(
    space: Space,
    bits: number,
    actor: number,
    input: Uint8Array,
    from: number,
    to: number,
    output: Uint8Array,
    report: Int32Array,
    listed: Int32Array,
  ): void;
  /** The key ids of the first `count` frames that are listed in `input`, '' for what is no key id. */
  listedKeys(input: Uint8Array, listed: Int32Array, count: number): string[];
  /**
   * Hands bytes to the kernel without waiting; returns how many it took. 0 if it has no room, and if the socket is broken: who
   * then writes by way of Node is told.
   */
  sendNow(fd: number, bytes: Uint8Array): number;
  /** One large frame's body on the pool: the answer's frame, and whether it holds plaintext; or a negative status for `notCached`, `needsUses`, `notCovered`, `audit`. */
  serveOnPool(space: Space, bits: number, actor: number, body: Uint8Array): Promise<Uint8Array | number>;
  wipe(secret: Uint8Array): void;

  // Audit
  /** The 32 bytes that verify what the `signing` key signs (Ed25519, RFC 8032). */
  publicKeyOf(signing: Handle): Uint8Array;
  /**
   * A chain whose lines go on after number `seq`, the hash of which is `prev` (0 and zeros for none), with an epoch key of its own.
   * It goes with the space: then every call on it answers SEALED.
   */
  openChain(space: Space, storeId: string, boot: string, seq: number, prev: Uint8Array): Chain;
  /** e ‖ wrapped of docs/FORMATS.md, 92 bytes. CONFLICT once there is a line, INVALID_ARGUMENT for a public key of low order. */
  sealEpochKey(chain: Chain, auditorPublic: Uint8Array): Uint8Array;
  /**
   * The next line, its line feed included. `members` is the JSON of the event's members from `type` on, without braces and white
   * space. With a `signing` key that is not 0 the line is signed. On a failure (TOO_LARGE above 8,192 bytes) there is no line.
   */
  chainLine(chain: Chain, members: string, signing: Handle): Uint8Array;
  /** One after the other; on a failure those before it, if there are any. */
  chainLines(chain: Chain, members: readonly string[]): Uint8Array;
  chainHead(chain: Chain): ChainHead;
  /** Wipes the epoch key. */
  closeChain(chain: Chain): void;
  /**
   * The next lines of the chain, about what data operations of its space have done and not told yet: of groups and then of
   * single events as many as fit into `mostBytes` (at least 640). Empty when there is nothing to tell. What is not taken goes with the
   * space. Of another space only by name.
   */
  takeData(chain: Chain, mostBytes: number, space?: Space): Uint8Array;
  /** The number of an actor, for as long as the process lives; 0 for what is none, and when there are no more numbers. */
  auditActor(name: string): number;
  /** `ownActor` is who uses keys where a call does not say; `database` stands in each line, where the space is one's. */
  setDataAudit(space: Space, mode: DataOperations, ownActor: number, database?: string): void;
  /** While it is on, encryptions and decryptions answer AUDIT_UNAVAILABLE. */
  setDataRefusal(space: Space, on: boolean): void;
  /**
   * From `until` (whole milliseconds of `sinceBoot`) on, encryptions and decryptions answer STORE_UNAVAILABLE: nothing is known of what
   * others have changed since. Moved on with each sign of life; a space that it was never called for has no such end.
   */
  keepFresh(space: Space, until: number): void;
  /** Milliseconds on a clock that nobody sets and that counts while the machine sleeps. */
  sinceBoot(): number;
  /** One message that came to `outcome` (its wire code) before it came to a key. 0, or a status: AUDIT_UNAVAILABLE, `NEEDS_AUDIT`. */
  tellData(space: Space, actor: number, encrypts: boolean, keyId: string, outcome: number, bytes: number): number;
  /** The same for a frame's body of ops 2 to 5. */
  tellFrame(space: Space, actor: number, body: Uint8Array, outcome: number): number;

  // Packed records: a handful of microseconds each, so that a million keys are a matter of seconds
  /**
   * What the calls below work with, until the next one or the end of the space; all handles are of the space. The first KEK is the
   * active one. INVALID_ARGUMENT, SEALED.
   */
  setRing(
    space: Space,
    storeId: string,
    recordMac: Handle,
    keks: ReadonlyArray<readonly [kekId: string, kekVersion: number, kek: Handle]>,
  ): void;
  /** The first record of a key to `out`, which has MAX_PACKED_BYTES at `offset`: its length, or a negative status. */
  makeRecord(
    space: Space,
    dek: Handle,
    keyId: string,
    threadId: string,
    createdBy: string,
    at: string,
    uses: number,
    out: Uint8Array,
    offset: number,
  ): number;
  /**
   * Verifies a record and puts its key into the table, without uses, or its state if it is not active: the handle, or a negative
   * status, that of a key that is due for a successor (KEY_EXHAUSTED) among them.
   */
  loadRecord(space: Space, keyId: string, packed: Uint8Array): number;
  /** The record under the active KEK, one version on, as `makeRecord` writes it; 0 for one that needs no move. */
  moveRecord(space: Space, keyId: string, packed: Uint8Array, at: string, out: Uint8Array, offset: number): number;
  /** 1 if both, of one key id, hold the same key, 0 if they hold two, or a negative status. */
  holdSameKey(space: Space, one: Uint8Array, other: Uint8Array): number;
  // Client-sealed databases
  /** Draws a secret: what the client gets, its key in the vault, and the name of its database. The caller wipes `secret`. */
  newDatabaseSecret(space: Space, storeId: Uint8Array): { half: Handle; databaseId: string; secret: Uint8Array };
  /** INVALID_ARGUMENT for what is none. */
  readDatabaseSecret(space: Space, storeId: Uint8Array, secret: Uint8Array): { half: Handle; databaseId: string };
  /** A `root` of `space`: HKDF-SHA256 of the client's half with the server's as salt. */
  joinHalves(space: Space, half: Handle, share: Handle, info: Uint8Array): Handle;
  /** nonce ‖ ciphertext ‖ tag under HKDF-SHA256 of a `root` or `kek`; a document has at most 4,096 bytes. */
  sealDocument(under: Handle, info: Uint8Array, aad: Uint8Array, document: Uint8Array): Uint8Array;
  /** AUTHENTICATION_FAILED unless it was sealed so. */
  openDocument(under: Handle, info: Uint8Array, aad: Uint8Array, sealed: Uint8Array): Uint8Array;

  // Certificates
  /** Both are PEM. With revocation lists, every issuer of a chain must have one in force. INVALID_ARGUMENT if one cannot be read. */
  openTrust(authorities: Uint8Array, revoked: Uint8Array): Trust;
  /** Why a client's chain (DER, its own certificate first) does not lead to one of the authorities now; `''` if it does. */
  whyNotTrusted(trust: Trust, chain: readonly Uint8Array[]): string;

  /** Whether one of the revocation lists (PEM) is a delta: only what has changed since another one. */
  holdsDelta(revoked: Uint8Array): boolean;
  /** When the first of the revocation lists (PEM) has to be replaced, in seconds since 1970; -1 if none says so. */
  firstNextUpdate(revoked: Uint8Array): number;

  // Documents
  parseRecord(json: Uint8Array): KeyMeta;
  /** As strict as `parseRecord`, of a packed record. */
  unpackRecord(packed: Uint8Array): KeyMeta;
  parseKeyring(json: Uint8Array): KeyringDocument;
}

const require = createRequire(import.meta.url);
const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const MEND = `\`npm --prefix ${ROOT} run install\` builds it, which takes g++, make and python3`;

/** One built here comes first, then the prebuilt one for this platform, architecture and C library. */
function find(): string {
  const path = findAnywhere();
  // It is also looked for where PROGRESSDB_KMS_PREBUILD says, and beside Node: what lies there is not of this package.
  if (path?.startsWith(ROOT + sep)) return path;
  const elsewhere = path === undefined ? '' : `, and ${path} is not taken`;
  throw new KmsError('UNSUPPORTED', `${ROOT} holds no native addon for ${process.platform}-${process.arch}${elsewhere}: ${MEND}`);
}

function findAnywhere(): string | undefined {
  const { resolve } = require('node-gyp-build') as { resolve(root: string): string };
  try {
    return resolve(ROOT);
  } catch {
    return undefined;
  }
}

function load(): Binding {
  if (!process.versions.openssl.startsWith('3.')) {
    throw new KmsError('UNSUPPORTED', `needs OpenSSL 3, this Node has ${process.versions.openssl}`);
  }
  const path = find();
  try {
    return require(path) as Binding;
  } catch (cause) {
    const [reason] = String(cause instanceof Error ? cause.message : cause).split('\n');
    throw new KmsError('UNSUPPORTED', `the native addon cannot be loaded (${reason}): ${MEND}`, { cause });
  }
}

export const binding = load();
/**
 * Set to 1 by the native core on this thread: the first cell when a key's reserved uses are half gone, the second when half as many
 * audit events wait for their lines as may.
 */
export const doorbell = new Int32Array(2);
export const nativeStatuses = binding.bind(KmsError, doorbell);
