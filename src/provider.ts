import type { KmsError } from './errors.js';

/** Options every call takes last. A passed deadline or an aborted signal ends the call; a write under way may still happen. */
export interface CallOptions {
  signal?: AbortSignal;
  /** Milliseconds this call may take, from now. */
  deadlineMs?: number;
}

export interface CreatedKey {
  keyId: string;
  /** The DEK wrapped under the KEK: nonce(12) ‖ ct(32) ‖ tag(16). */
  wrapped: Uint8Array;
  kekId: string;
  /** A decimal string. */
  kekVersion: string;
}

export interface Encrypted {
  /** nonce(12) ‖ ciphertext ‖ tag(16). */
  ciphertext: Uint8Array;
  /** The version of the KEK that wraps the key, a decimal string. */
  keyVersion: string;
}

/** One item of a batch: its result or why there is none. */
export type ItemResult = Uint8Array | KmsError;

/** AAD of a batch: none, one for all, or one per item. */
export type BatchAad = Uint8Array | ReadonlyArray<Uint8Array | undefined> | undefined;

export type KeyState = 'active' | 'disabled' | 'destroyed';

export interface KeyDescription {
  keyId: string;
  /** What the key belongs to; null for a key made without a thread. */
  threadId: string | null;
  alg: 'A256GCM';
  state: KeyState;
  /** Counts the writes of the record, from 1. */
  version: number;
  kekId: string;
  kekVersion: string;
  /** Encryptions reserved so far: never fewer than were done. */
  usesReserved: number;
  /** RFC 3339, UTC. */
  createdAt: string;
  updatedAt: string;
  createdBy: string;
}

export interface KeyPage {
  keys: KeyDescription[];
  /** Pass it back for the next page; null on the last. A page may be empty and still have a next one. */
  next: string | null;
}

export interface ListQuery {
  threadId?: string;
  cursor?: string;
  /** Keys per page, 1 to 1,000; 100 unless told. */
  limit?: number;
}

export interface Health {
  status: 'ok' | 'sealed' | 'degraded';
  /** Where keys live: `secretmem` (memfd_secret), `mlock`, or `none`. */
  protection: 'secretmem' | 'mlock' | 'none';
  /** Why the store refuses writes, null while it does not. */
  storeFault: string | null;
  /** Why the audit log cannot be written, null while it can. */
  auditFault: string | null;
  /** Records that were found damaged, each with the reason; the others keep serving. */
  damagedRecords: Array<{ keyId: string; reason: string }>;
  /** Keys whose reserved uses have passed the soft limit, as far as this process has met them. */
  keysNearLimit: string[];
}

export interface RewrapOptions extends CallOptions {
  /** 64 hex digits: a master key that opens the store, too, from here on; see `SlotDescription`. Only for compatibility. */
  newKekHex?: string;
}

export interface RotationOptions extends CallOptions {
  /** As of `RewrapOptions`; once a start has used it, the older master keys open the store no more. */
  newKekHex?: string;
  /** The same from a key file, which the process that has the store reads. */
  newMasterKeyFile?: string;
  /** Resolve when the rotation is complete, or blocked, instead of when it has begun. */
  wait?: boolean;
  /** Only count and open what would be rewrapped. */
  dryRun?: boolean;
  /** Keys rewrapped per second at most, 0 for any number. */
  keysPerSecond?: number;
  /** Keys with damaged records that the rotation shall leave behind: what was encrypted under them is lost. */
  abandon?: readonly string[];
}

export interface RotationStatus {
  /** `blocked`: records that cannot be read or opened hold the rotation up; `failed`: it stopped, and a start resumes it. */
  state: 'idle' | 'running' | 'blocked' | 'failed';
  /** The rotation that is under way or was the last of this process; null if there was none. */
  rotationId: string | null;
  /** Where it is: null while none is under way. */
  phase: 'drain' | 'rewrap' | 'verify' | 'retire' | null;
  /** The active KEK. */
  kekId: string;
  kekVersion: string;
  /** Records that this rotation has to rewrap, and has. */
  total: number;
  done: number;
  /** How fast it goes; 0 while none is under way. */
  keysPerSecond: number;
  /** Null while that cannot be said. */
  secondsLeft: number | null;
  /** RFC 3339, UTC. */
  startedAt: string | null;
  finishedAt: string | null;
  /** Why it is blocked, up to 100 keys. */
  blockedBy: Array<{ keyId: string; reason: string }>;
  /** Why it failed. */
  error: string | null;
  /** Whether a rotation is due, by the age of the active KEK or the number of its wraps, and why. */
  due: string | null;
}

/** A way to open the store. */
export interface SlotDescription {
  slotId: string;
  kind: 'master' | 'recovery';
  /** `pending` and `successor` have opened no start yet; a successor then takes the place of the other master keys. */
  state: 'active' | 'pending' | 'successor';
  createdAt: string;
  /** When it goes unless a start has used it; null for never. */
  expiresAt: string | null;
  /** Whether this is what the store was opened with. */
  inUse: boolean;
}

/** A key that shall open the store as well: one of the two. */
export interface NewSlot {
  /** A key file, which the process that has the store reads. */
  masterKeyFile?: string;
  /** 64 hex digits. Only for compatibility. */
  keyHex?: string;
  /** `master` unless told. */
  kind?: SlotDescription['kind'];
}

/** The ways to open the store. */
export interface SlotKeeper {
  slots(options?: CallOptions): Promise<SlotDescription[]>;
  /** Durable when it resolves, and gone after seven days unless a start has used it. A key that has a slot gets no second one. */
  addSlot(slot: NewSlot, options?: CallOptions): Promise<SlotDescription>;
  /**
   * What a start does for a store that is its own, and takes this for one that several daemons share: the key that the store was opened
   * with is there to stay, what it succeeds and what has expired goes. CONFLICT while a daemon runs that was opened with one of those.
   */
  confirmSlot(options?: CallOptions): Promise<SlotDescription[]>;
  /** Afterwards its key opens nothing of the store. CONFLICT for the one that it was opened with. */
  removeSlot(slotId: string, options?: CallOptions): Promise<void>;
}

/** What is known of a client-sealed database without its secret. */
export interface DatabaseDescription {
  databaseId: string;
  /** Null where its document is damaged. */
  createdAt: string | null;
  createdBy: string | null;
  /** Why it cannot be opened, null where that is not known before its secret comes. */
  fault: string | null;
}

/** What a backup shall be. */
export interface BackupOrder {
  /** Of a file that is not there, absolute, on the machine that has the store. */
  path: string;
  /** Leave damaged records out, and name them, instead of making no backup; false unless told. */
  skipDamaged?: boolean;
}

export interface BackupDescription {
  path: string;
  bytes: number;
  storeId: string;
  /** Of the keyring in it. */
  generation: number;
  /** When it began: every key that was made before is in it. */
  createdAt: string;
  createdBy: string;
  records: number;
  /** Keys whose records were damaged already. */
  leftOut: readonly string[];
}

/** What applications call. Every method rejects with a `KmsError`. One contract suite runs against each implementation. */
export interface Provider {
  /** Makes a data key for a thread; durable when the promise resolves. */
  createDekForThread(threadId: string, options?: CallOptions): Promise<CreatedKey>;
  /** Makes a data key that belongs to no thread, or to `label`. */
  createDek(label?: string, options?: CallOptions): Promise<CreatedKey>;
  /** AES-256-GCM under the key with a fresh random nonce (NIST SP 800-38D). `aad` is authenticated exactly as given. */
  encryptWithDek(keyId: string, plaintext: Uint8Array, aad?: Uint8Array, options?: CallOptions): Promise<Encrypted>;
  decryptWithDek(keyId: string, ciphertext: Uint8Array, aad?: Uint8Array, options?: CallOptions): Promise<Uint8Array>;
  /**
   * One result per item, in order; one item's failure leaves the others alone. The items must stay as they are until the
   * promise settles; of the calls above, the arguments may be used again at once.
   */
  encryptMany(keyId: string, plaintexts: readonly Uint8Array[], aad?: BatchAad, options?: CallOptions): Promise<ItemResult[]>;
  decryptMany(keyId: string, ciphertexts: readonly Uint8Array[], aad?: BatchAad, options?: CallOptions): Promise<ItemResult[]>;
  /** Under the default key: 0x01 ‖ key id(16) ‖ nonce ‖ ct ‖ tag, so that it can be succeeded. */
  encrypt(plaintext: Uint8Array, aad?: Uint8Array, options?: CallOptions): Promise<Uint8Array>;
  decrypt(sealed: Uint8Array, aad?: Uint8Array, options?: CallOptions): Promise<Uint8Array>;
  getWrapped(keyId: string, options?: CallOptions): Promise<Uint8Array>;
  /** Moves one key to the active KEK. Durable when the promise resolves. */
  rewrapDek(keyId: string, options?: RewrapOptions): Promise<CreatedKey>;
  /**
   * Makes a new KEK and moves every key to it while all of them go on serving. Resolves once the new KEK is durable and in use,
   * or with `wait` at the end. CONFLICT while another rotation is under way, unless only `abandon` is given.
   */
  rotateKek(options?: RotationOptions): Promise<RotationStatus>;
  rotationStatus(options?: CallOptions): Promise<RotationStatus>;
  listKeys(query?: ListQuery, options?: CallOptions): Promise<KeyPage>;
  describeKey(keyId: string, options?: CallOptions): Promise<KeyDescription>;
  disableKey(keyId: string, options?: CallOptions): Promise<KeyDescription>;
  enableKey(keyId: string, options?: CallOptions): Promise<KeyDescription>;
  /** Needs a disabled key. Complete after the next KEK rotation, and not in archives already made. */
  destroyKey(keyId: string, options?: CallOptions): Promise<KeyDescription>;
  health(options?: CallOptions): Promise<Health>;
  close(): Promise<void>;
}
