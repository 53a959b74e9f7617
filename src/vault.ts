import { AuditChain } from './audit-chain.js';
import { ERROR_TABLE, type ErrorCode, errorCodeOfWire, KmsError } from './errors.js';
import { CIPHERTEXT_OVERHEAD, INLINE_BYTES, KEY_BYTES, MAX_PACKED_BYTES } from './limits.js';
import {
  type ArenaInfo,
  binding,
  type ChainHead,
  type DataOperations,
  doorbell,
  type Handle,
  type Kind,
  NEEDS_AUDIT,
  NEEDS_USES,
  NOT_CACHED,
  OWN_ACTOR,
  type PoolResult,
  type Space,
  UNAUDITED,
} from './native.js';
import { LARGEST_FROM_SLAB, Slab } from './slab.js';

export type { ArenaInfo, ChainHead, DataOperations, Handle, Kind, Space };

/**
 * What a hot call asks for instead of a result: the key is not in the vault, its reserved uses are gone, or there is no room for
 * another audit event.
 */
export type Wanting = typeof NOT_CACHED | typeof NEEDS_USES | typeof NEEDS_AUDIT;
export { NEEDS_AUDIT, NEEDS_USES, NOT_CACHED, UNAUDITED };

/** Who uses a key, for the audit log: a number of `actorNumber`, or undefined for the space's own actor. */
export type Actor = number | undefined;

/** 0, to which everything that is audited is refused, for what is no actor. */
export function actorNumber(name: string): number {
  return binding.auditActor(name);
}

// Two of them: who is given a ciphertext is not given a view of somebody's plaintext beside it.
const ciphertexts = new Slab();
const plaintexts = new Slab();
/** Packed records, which are made by the million. */
const packedRecords = new Slab();

/**
 * Into the caller's buffer, with nothing between it and the native call: bytes written, or a negative status. Taken out of the
 * addon once: its object has so many members that V8 looks each up by hash.
 */
export const { encryptInto, decryptInto } = binding;

/** The KmsError behind a negative status of a hot call. */
export function errorOfStatus(status: number): KmsError {
  return new KmsError(errorCodeOfWire(-status));
}

export function isWanting(status: number): status is Wanting {
  return status === NOT_CACHED || status === NEEDS_USES || status === NEEDS_AUDIT;
}

function settle(status: number): Wanting {
  if (isWanting(status)) return status;
  throw errorOfStatus(status);
}

/** nonce ‖ ciphertext ‖ tag in fresh memory, or what the call wants first. Throws the other failures. */
export function encrypt(key: Handle, plaintext: Uint8Array, aad: Uint8Array | undefined, actor?: Actor): Uint8Array | Wanting {
  const length = plaintext.length + CIPHERTEXT_OVERHEAD;
  if (length > LARGEST_FROM_SLAB) return alone(encryptInto, key, plaintext, aad, length, actor);
  ciphertexts.makeRoom(length);
  const { bytes, at } = ciphertexts;
  // An argument that is there costs a look at it.
  const written =
    actor === undefined ? encryptInto(key, plaintext, aad, bytes, at) : encryptInto(key, plaintext, aad, bytes, at, actor);
  return written < 0 ? settle(written) : ciphertexts.take(written);
}

export function decrypt(key: Handle, ciphertext: Uint8Array, aad: Uint8Array | undefined, actor?: Actor): Uint8Array | Wanting {
  const length = Math.max(0, ciphertext.length - CIPHERTEXT_OVERHEAD);
  if (length > LARGEST_FROM_SLAB) return alone(decryptInto, key, ciphertext, aad, length, actor);
  plaintexts.makeRoom(length);
  const { bytes, at } = plaintexts;
  const written =
    actor === undefined ? decryptInto(key, ciphertext, aad, bytes, at) : decryptInto(key, ciphertext, aad, bytes, at, actor);
  return written < 0 ? settle(written) : plaintexts.take(written);
}

function alone(
  into: typeof encryptInto,
  key: Handle,
  input: Uint8Array,
  aad: Uint8Array | undefined,
  length: number,
  actor: Actor,
) {
  const out = Buffer.allocUnsafeSlow(length);
  const written = into(key, input, aad, out, 0, actor);
  return written < 0 ? settle(written) : new Uint8Array(out.buffer, out.byteOffset, length);
}

/** Large messages go to the thread pool, so that the event loop does not stand still for them. */
export function isLarge(input: Uint8Array): boolean {
  return input.length > INLINE_BYTES;
}

/** A large message that wants something first, in memory of its own as it was when it was given. */
export interface Postponed {
  wanted: Wanting;
  input: Uint8Array;
}

function settleLarge(result: PoolResult): Uint8Array | Postponed {
  if (result instanceof Uint8Array) return result;
  if (typeof result !== 'number') return { wanted: settle(result[0]), input: result[1] };
  if (result === 0) return new Uint8Array(0);
  throw errorOfStatus(result);
}

export async function encryptLarge(
  key: Handle,
  plaintext: Uint8Array,
  aad: Uint8Array | undefined,
  actor?: Actor,
): Promise<Uint8Array | Postponed> {
  return settleLarge(await binding.encryptOnPool(key, plaintext, aad, actor));
}

export async function decryptLarge(
  key: Handle,
  ciphertext: Uint8Array,
  aad: Uint8Array | undefined,
  actor?: Actor,
): Promise<Uint8Array | Postponed> {
  return settleLarge(await binding.decryptOnPool(key, ciphertext, aad, actor));
}

export { doorbell };

/** True once after keys of this thread have used half of what was reserved for them. */
export function bellRang(): boolean {
  if (doorbell[0] === 0) return false;
  doorbell[0] = 0;
  return true;
}

/** True once after many audit events of this thread have come to wait for their lines. */
export function auditBellRang(): boolean {
  if (doorbell[1] === 0) return false;
  doorbell[1] = 0;
  return true;
}

/** Where a master key comes from; read natively, at the opening and at every unseal. */
export type MasterSource =
  | { kind: 'file'; path: string; mayBeGroupReadable: boolean }
  | { kind: 'descriptor'; fd: number }
  /** Wiped when they are read, so that they are read once. */
  | { kind: 'bytes'; bytes: Uint8Array }
  | { kind: 'ephemeral' };

export interface ArenaOptions {
  arenaBytes: number;
  keptContexts: number;
}

/**
 * One namespace of unwrapped keys. It exists from `Vault.open` to `close`, which wipes them all and answers after the
 * last one; every call afterwards throws SEALED.
 */
export class Vault {
  readonly space: Space;
  #open = true;

  /** Makes the process's arena (once) and a namespace in it. */
  static open(arena: ArenaOptions, cachedKeys: number): Vault {
    binding.initialise(arena.arenaBytes, arena.keptContexts);
    return new Vault(binding.openSpace(cachedKeys));
  }

  private constructor(space: Space) {
    this.space = space;
  }

  get isOpen(): boolean {
    return this.#open;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    binding.closeSpace(this.space);
  }

  #use(): Space {
    if (!this.#open) throw new KmsError('SEALED');
    return this.space;
  }

  readMaster(source: MasterSource): Handle {
    const space = this.#use();
    if (source.kind === 'file') return binding.readKeyFile(space, source.path, source.mayBeGroupReadable);
    if (source.kind === 'descriptor') return binding.readKeyDescriptor(space, source.fd);
    if (source.kind === 'bytes') return this.#import('master', source.bytes);
    return binding.generateKey(space, 'master');
  }

  generate(kind: Kind): Handle {
    return binding.generateKey(this.#use(), kind);
  }

  /** An Ed25519 key, and what verifies its signatures. */
  generateSigning(): { handle: Handle; publicKey: Uint8Array } {
    const handle = this.generate('signing');
    return { handle, publicKey: this.publicKeyOf(handle) };
  }

  publicKeyOf(signing: Handle): Uint8Array {
    this.#use();
    return binding.publicKeyOf(signing);
  }

  /** A new epoch of the store's audit log, whose lines go on after `head`; it ends with the vault. */
  openChain(storeId: string, boot: string, head: ChainHead): AuditChain {
    return new AuditChain(binding.openChain(this.#use(), storeId, boot, head.seq, head.prev));
  }

  /** How data operations come into the audit log; `ownActor` does those that name nobody. Lines name `database` if it is given. */
  setDataAudit(mode: DataOperations, ownActor: string, database = ''): void {
    binding.setDataAudit(this.#use(), mode, actorNumber(ownActor), database);
  }

  /** While it is on, encryptions and decryptions answer AUDIT_UNAVAILABLE. */
  setDataRefusal(on: boolean): void {
    binding.setDataRefusal(this.#use(), on);
  }

  /** From `until` (of `sinceBoot`) on, encryptions and decryptions answer STORE_UNAVAILABLE. */
  keepFresh(until: number): void {
    binding.keepFresh(this.#use(), Math.floor(until));
  }

  /** A message that failed before it came to its key: for the audit log. 0, or what is wanted; throws AUDIT_UNAVAILABLE, SEALED. */
  tell(encrypts: boolean, keyId: string, code: ErrorCode, bytes: number, actor: Actor): 0 | Wanting {
    const status = binding.tellData(this.#use(), actor ?? OWN_ACTOR, encrypts, keyId, ERROR_TABLE[code].wire, bytes);
    return status === 0 ? 0 : settle(status);
  }

  /** The same for the body of a frame of ops 2 to 5. */
  tellFrame(actor: number, body: Uint8Array, code: ErrorCode): 0 | Wanting {
    const status = binding.tellFrame(this.#use(), actor, body, ERROR_TABLE[code].wire);
    return status === 0 ? 0 : settle(status);
  }

  /** Takes a raw data key over; `raw` is wiped. */
  importDek(raw: Uint8Array): Handle {
    if (raw.length !== KEY_BYTES) throw new KmsError('INVALID_ARGUMENT', 'a data key has 32 bytes');
    return this.#import('dek', raw);
  }

  #import(kind: Kind, raw: Uint8Array): Handle {
    // V8 keeps so small an array in its heap until native code asks for it, and would leave a copy there: wiped before that.
    const secret = new Uint8Array(new ArrayBuffer(KEY_BYTES));
    secret.set(raw);
    raw.fill(0);
    return binding.importKey(this.#use(), kind, secret);
  }

  derive(from: Handle, salt: Uint8Array, info: string, kind: Kind): Handle {
    this.#use();
    return binding.deriveKey(from, salt, Buffer.from(info, 'utf8'), kind);
  }

  wrap(under: Handle, key: Handle, aad: Uint8Array): Uint8Array {
    this.#use();
    return binding.wrapKey(under, key, aad);
  }

  /** In constant time. */
  isSame(a: Handle, b: Handle): boolean {
    this.#use();
    return binding.sameKey(a, b);
  }

  /** AUTHENTICATION_FAILED unless `wrapped` was made under this key with this AAD. */
  unwrap(under: Handle, wrapped: Uint8Array, aad: Uint8Array, kind: Kind): Handle {
    this.#use();
    return binding.unwrapKey(under, wrapped, aad, kind);
  }

  /** A data key of the original, which stands under its master key itself. AUTHENTICATION_FAILED unless it does. */
  unwrapOriginal(master: Handle, wrapped: Uint8Array): Handle {
    this.#use();
    return binding.unwrapOriginal(master, wrapped);
  }

  sameKey(a: Handle, b: Handle): boolean {
    this.#use();
    return binding.sameKey(a, b);
  }

  mac(key: Handle, data: Uint8Array): Uint8Array {
    this.#use();
    return binding.hmac(key, data);
  }

  macMatches(key: Handle, data: Uint8Array, mac: Uint8Array): boolean {
    this.#use();
    return binding.verifyHmac(key, data, mac);
  }

  release(key: Handle): void {
    if (this.#open) binding.releaseKey(key);
  }

  /** A new secret of a database of the store; whoever gets it wipes it. */
  newDatabaseSecret(storeId: string): { half: Handle; databaseId: string; secret: Uint8Array } {
    return binding.newDatabaseSecret(this.#use(), Buffer.from(storeId, 'latin1'));
  }

  /** The client's half, and the name of the database that the secret is of, which need not exist. `secret` is wiped. */
  readDatabaseSecret(storeId: string, secret: Uint8Array): { half: Handle; databaseId: string } {
    return binding.readDatabaseSecret(this.#use(), Buffer.from(storeId, 'latin1'), secret);
  }

  /** What both halves make together, in this vault; they may stand in another one. */
  join(half: Handle, share: Handle, info: Uint8Array): Handle {
    return binding.joinHalves(this.#use(), half, share, info);
  }

  sealDocument(under: Handle, info: Uint8Array, aad: Uint8Array, document: Uint8Array): Uint8Array {
    this.#use();
    return binding.sealDocument(under, info, aad, document);
  }

  /** AUTHENTICATION_FAILED unless `sealed` was made under this key with this info and AAD. */
  openDocument(under: Handle, info: Uint8Array, aad: Uint8Array, sealed: Uint8Array): Uint8Array {
    this.#use();
    return binding.openDocument(under, info, aad, sealed);
  }

  exportDek(dek: Handle): Uint8Array {
    this.#use();
    return binding.exportKey(dek);
  }

  publish(dek: Handle, keyId: string, kekVersion: number, uses: number): Handle {
    return binding.publishKey(this.#use(), dek, keyId, kekVersion, uses);
  }

  /** What the four calls below work with: see `Binding.setRing`. To be set anew with every change of the keyring. */
  setRing(storeId: string, recordMac: Handle, keks: ReadonlyArray<readonly [string, number, Handle]>): void {
    binding.setRing(this.#use(), storeId, recordMac, keks);
  }

  /** The first packed record of a key: active, of version 1, under the active KEK. */
  makeRecord(dek: Handle, keyId: string, threadId: string, createdBy: string, at: string, uses: number): Uint8Array {
    packedRecords.makeRoom(MAX_PACKED_BYTES);
    const out = packedRecords;
    const written = binding.makeRecord(this.#use(), dek, keyId, threadId, createdBy, at, uses, out.bytes, out.at);
    if (written < 0) throw errorOfStatus(written);
    return out.take(written);
  }

  /**
   * Verifies a packed record and puts its key into the vault, or its state: the handle. Negative for what is not sound, or due for a
   * successor: the way by `unpacked` says what it is.
   */
  loadRecord(keyId: string, packed: Uint8Array): Handle {
    return binding.loadRecord(this.#use(), keyId, packed);
  }

  /** The packed record under the active KEK; 0 for one that needs no move, negative for what is not sound. */
  moveRecord(keyId: string, packed: Uint8Array, at: string): Uint8Array | number {
    packedRecords.makeRoom(MAX_PACKED_BYTES);
    const out = packedRecords;
    const written = binding.moveRecord(this.#use(), keyId, packed, at, out.bytes, out.at);
    return written <= 0 ? written : out.take(written);
  }

  /** Whether two packed records of one key hold the same key, in constant time; negative for what is not sound. */
  holdSameKey(one: Uint8Array, other: Uint8Array): boolean | number {
    const same = binding.holdSameKey(this.#use(), one, other);
    return same < 0 ? same : same === 1;
  }

  /** 0 if the key is not in the vault. */
  find(keyId: string): Handle {
    return binding.findKey(this.#use(), keyId);
  }

  kekVersionOf(dek: Handle): string {
    return String(binding.kekVersionOf(dek));
  }

  /** Wipes a key wherever it is; `disabled` and `destroyed` stay as answers. */
  retire(keyId: string, how: 'evicted' | 'disabled' | 'destroyed'): void {
    if (this.#open) binding.retireKey(this.space, keyId, how);
  }

  /** Wipes all data keys. What was begun with one, on the pool too, is done when it returns, and told for the audit log. */
  retireAll(): void {
    if (this.#open) binding.retireKeys(this.space);
  }

  grantUses(keyId: string, uses: number): void {
    if (this.#open) binding.grantUses(this.space, keyId, uses);
  }

  takeUseRequests(): string[] {
    return this.#open ? binding.takeUseRequests(this.space) : [];
  }

  takeUnusedUses(): Array<[keyId: string, uses: number]> {
    return this.#open ? binding.takeUnusedUses(this.space) : [];
  }

  get cachedKeys(): number {
    return this.#open ? binding.cachedKeys(this.space) : 0;
  }
}

export function arenaInfo(): ArenaInfo {
  return binding.arenaInfo();
}

/** One look for what was not used for that many looks: contexts, keys. One sweeper per process is enough. */
export function sweep(contextSweeps: number, keySweeps: number): void {
  binding.sweep(contextSweeps, keySweeps);
}
