import { KmsError } from '../errors.js';
import type { DatabaseKms } from '../kms/databases/database-kms.js';
import type { EmbeddedKms } from '../kms/embedded.js';
import { SEALED_HEADER_BYTES } from '../limits.js';
import { binding } from '../native.js';
import type { CreatedKey, RotationOptions } from '../provider.js';
import { OP, OPERATIONS, PROTOCOL_VERSION, type Role } from '../wire/frames.js';
import {
  awaitsStart,
  backupMapOf,
  batchOfItems,
  type Call,
  type KeysStatus,
  keyMapOf,
  parseArguments,
  resultsOfCreated,
  resultsOfPage,
  rotationMapOf,
  type SlotRequest,
  slotMapOf,
  statusMapOf,
} from '../wire/messages.js';
import type { Accounts } from './accounts.js';
import type { Authentication } from './authentication.js';
import { backUp } from './backup.js';
import type { Timeouts } from './config.js';
import type { Denials } from './denials.js';
import { ANONYMOUS, type Identity, may } from './identity.js';
import type { Burst, Log } from './log.js';
import type { Metrics } from './metrics/metrics.js';
import type { Policy } from './policy.js';
import type { KeyQuota } from './quota.js';
import type { Spin } from './spin.js';
import type { Turnstile } from './turnstile.js';
import type { Watch } from './watch.js';

export type { DatabaseKms };

/** What the operations work on. */
export interface Service {
  readonly kms: EmbeddedKms;
  readonly log: Log;
  readonly authentication: Authentication;
  readonly policy: Policy;
  /** Counts the requests that come here, and who is turned away. */
  readonly watch: Watch;
  /** What there is to tell Prometheus. Loaded when it is first asked for. */
  metrics(): Promise<Metrics>;
  readonly accounts: Accounts;
  readonly quota: KeyQuota;
  /** Encryptions and decryptions are answered once the audit log has them on the disk. */
  readonly isStrict: boolean;
  /** What was refused, for the audit log. */
  readonly denials: Denials;
  /** Requests that failed for a reason of ours. */
  readonly failures: Burst;
  /** Keys that were disabled, enabled and destroyed, or were so already. */
  readonly keyStates: Burst;
  /** Where requests queue that could not be served beside the others. */
  readonly turnstile: Turnstile;
  readonly timeouts: Timeouts;
  /** Where the event loop is not to sleep at once. */
  readonly spin: Spin | undefined;
  /** The store was sealed or unsealed, or may have been. */
  spaceChanged(): void;
  readonly version: string;
  /** Of `performance.now()`. */
  readonly startedAt: number;
  connections(): number;
}

/** A caller, who may turn out to be another one while the connection lasts. */
export interface Caller {
  readonly identity: Identity;
  /** By the token of a hello. Throws BUSY if that one has too many connections. */
  become?(identity: Identity): void;
  /** The database that its requests are in; undefined outside. */
  readonly database?: DatabaseKms | undefined;
  /** What the connection needs to go into another one. */
  readonly doorway?: Doorway;
}

/** Of a connection that may change the database which it is in. */
export interface Doorway {
  /** A change is under way: whoever asks for something meanwhile could not know where it is done. */
  isChanging: boolean;
  /** Leaves the one it is in for `database`, undefined for none. */
  enter(database: DatabaseKms | undefined): void;
}

/** What is done with keys, and so in the database that the caller is in. All else is of the whole store, wherever the caller is. */
const OF_KEYS: ReadonlySet<number> = new Set([
  OP.createDekForThread,
  OP.encrypt,
  OP.decrypt,
  OP.encryptMany,
  OP.decryptMany,
  OP.getWrapped,
  OP.rewrap,
  OP.createDek,
  OP.listKeys,
  OP.describeKey,
  OP.setKeyState,
  OP.ownedKeys,
]);

export function isOfKeys(op: number): boolean {
  return OF_KEYS.has(op);
}

/** Whose keys the caller's requests are about. */
export function keysOf({ kms }: Service, { database }: Caller): EmbeddedKms | DatabaseKms {
  return database ?? kms;
}

/** Throws PERMISSION_DENIED, or UNAUTHENTICATED for nobody, unless the caller has a role that may do this. `set_key_state` looks at the key as well. */
export function authorise(caller: Identity, op: number): void {
  const operation = OPERATIONS[op];
  if (operation === undefined) return;
  if (operation.role !== 'any' && caller === ANONYMOUS) throw new KmsError('UNAUTHENTICATED', 'give a token');
  const allowed = operation.role === 'any' || may(caller, operation.role) || (operation.ownKeys && may(caller, 'client'));
  if (!allowed) throw new KmsError('PERMISSION_DENIED', `${operation.name} needs the role ${operation.role}`);
}

/** The same for `what`, which is no operation. */
export function requireRole(caller: Identity, role: Role, what: string): void {
  if (caller === ANONYMOUS) throw new KmsError('UNAUTHENTICATED', 'give a token');
  if (!may(caller, role)) throw new KmsError('PERMISSION_DENIED', `${what} needs the role ${role}`);
}

/** Carries out one operation that the native core does not answer by itself. Returns the answer's results. */
export async function perform(service: Service, caller: Caller, op: number, args: readonly unknown[]): Promise<unknown[]> {
  authorise(caller.identity, op);
  const call = parseArguments(op, args);
  if (!service.isStrict || !isOfData(op)) return carryOut(service, caller, call);
  try {
    return await carryOut(service, caller, call);
  } finally {
    // That it failed is told, too. Where that cannot be written, this is the answer.
    await service.kms.dataWritten();
  }
}

function isOfData(op: number): boolean {
  return op >= OP.encrypt && op <= OP.decryptMany;
}

async function carryOut(service: Service, session: Caller, call: Call): Promise<unknown[]> {
  if (session.doorway?.isChanging === true) throw new KmsError('CONFLICT', 'the connection is on its way to another database');
  if (call.op === OP.openDatabase) return changeDatabase(service, session, call.secret);
  // Held: the connection may leave the database, or be gone, before this is done.
  const held = isOfKeys(call.op) ? session.database?.again() : undefined;
  try {
    return await within(service, session, held ?? service.kms, call);
  } finally {
    held?.leave();
  }
}

/** `keys` are those of the database that the caller was in when it asked, or the store's. */
async function within(service: Service, session: Caller, keys: EmbeddedKms | DatabaseKms, call: Call): Promise<unknown[]> {
  const { kms } = service;
  const caller = session.identity;
  await service.policy.check(caller, call, keys);
  switch (call.op) {
    case OP.hello:
      return hello(service, session, call.version, call.token);
    case OP.createDekForThread:
      return create(service, caller, keys, (options) => keys.createDekForThread(call.threadId, options));
    case OP.createDek:
      return create(service, caller, keys, (options) => keys.createDek(call.label, options));
    case OP.encrypt:
      return encrypt(keys, caller, call.keyId, call.data, call.aad);
    case OP.decrypt:
      if (call.keyId === undefined) return [await keys.decrypt(call.data, call.aad, by(caller))];
      return [await keys.decryptWithDek(call.keyId, call.data, call.aad, by(caller))];
    case OP.encryptMany:
      return [batchOfItems(await keys.encryptMany(call.keyId, call.items, call.aad, by(caller)))];
    case OP.decryptMany:
      return [batchOfItems(await keys.decryptMany(call.keyId, call.items, call.aad, by(caller)))];
    case OP.getWrapped:
      return [await keys.getWrapped(call.keyId, { actor: caller.actor })];
    case OP.rewrap:
      return resultsOfRewrap(await rewrap(service, caller, keys, call.keyId, call.newKekHex));
    case OP.rotateKek:
      return [await rotate(service, caller, call.options)];
    case OP.rotationStatus:
      return [rotationMapOf(await kms.rotationStatus())];
    case OP.status:
      return [await status(service)];
    case OP.listKeys:
      return resultsOfPage(await keys.listKeys(call.query));
    case OP.ownedKeys:
      return resultsOfPage(await keys.ownedKeys(call.query, by(caller)));
    case OP.describeKey:
      return [keyMapOf(await keys.describeKey(call.keyId))];
    case OP.setKeyState: {
      const scope = may(caller, 'admin') ? {} : { onlyCreatedBy: caller.actor };
      const key = await keys.setKeyState(call.keyId, call.state, { actor: caller.actor, ...scope });
      service.keyStates.note(() => ({ actor: caller.actor, key_id: call.keyId, state: call.state }));
      return [keyMapOf(key)];
    }
    case OP.slots:
      return [await slots(service, caller, call)];
    case OP.backup: {
      const made = await backUp(kms, call.order, caller.actor);
      service.log('info', 'backup', { actor: caller.actor, path: made.path, records: made.records });
      return [backupMapOf(made)];
    }
    case OP.newDatabase:
      return newDatabase(service, caller);
    case OP.openDatabase:
      throw new KmsError('UNSUPPORTED', 'a database is opened by a connection');
    case OP.seal:
    case OP.unseal:
      await (call.op === OP.seal ? seal(service, caller) : unseal(service, caller));
      return [];
  }
}

/** A database has a limit of its own: what is in it nobody can count who has no secret. */
async function create(
  { quota, kms }: Service,
  { actor }: Identity,
  keys: EmbeddedKms | DatabaseKms,
  make: (options: { actor: string }) => Promise<CreatedKey>,
): Promise<unknown[]> {
  return resultsOfCreated(keys === kms ? await quota.create(actor, () => make({ actor })) : await make({ actor }));
}

async function newDatabase({ kms, log }: Service, { actor }: Identity): Promise<unknown[]> {
  const secret = await kms.newDatabase({ actor });
  log('info', 'new_database', { actor });
  return [secret];
}

/** The secret is a part of the frame, and is wiped in it. */
async function changeDatabase({ kms }: Service, session: Caller, secret: Uint8Array | undefined): Promise<unknown[]> {
  const { doorway } = session;
  if (doorway === undefined) throw new KmsError('UNSUPPORTED', 'a database is opened by a connection');
  doorway.isChanging = true;
  try {
    const { actor } = session.identity;
    doorway.enter(secret === undefined ? undefined : await kms.openDatabase(secret, { actor }));
    return [];
  } finally {
    doorway.isChanging = false;
  }
}

async function hello(service: Service, session: Caller, version: number, token: string | undefined): Promise<unknown[]> {
  if (version !== PROTOCOL_VERSION) throw new KmsError('UNSUPPORTED', `protocol version ${version}; this is ${PROTOCOL_VERSION}`);
  if (token !== undefined) session.become?.(await service.authentication.ofToken(token, session));
  return [PROTOCOL_VERSION, `progressdb-kms/${service.version}`, binding.arenaInfo().protection, service.kms.sealed];
}

/** For the audit log. */
function by({ actor }: Identity): { actor: string } {
  return { actor };
}

async function encrypt(
  kms: EmbeddedKms | DatabaseKms,
  caller: Identity,
  keyId: string | undefined,
  data: Uint8Array,
  aad: Uint8Array | undefined,
): Promise<unknown[]> {
  if (keyId !== undefined) {
    const { ciphertext, keyVersion } = await kms.encryptWithDek(keyId, data, aad, by(caller));
    return [ciphertext, keyVersion];
  }
  const sealed = await kms.encrypt(data, aad, by(caller));
  return [sealed, await keyVersionOf(kms, sealed)];
}

/** The KEK version of the default key that sealed it, which names itself in the header. It has just been used: it is cached. */
async function keyVersionOf(kms: EmbeddedKms | DatabaseKms, sealed: Uint8Array): Promise<string> {
  const keyId = `k_${Buffer.from(sealed.buffer, sealed.byteOffset + 1, SEALED_HEADER_BYTES - 1).toString('hex')}`;
  const dek = binding.findKey(kms.space, keyId);
  return dek === 0 ? (await kms.describeKey(keyId)).kekVersion : String(binding.kekVersionOf(dek));
}

// What is so already is no event: a log full of them hides the one that counts.

async function seal({ kms, log, spaceChanged }: Service, { actor }: Identity): Promise<void> {
  const wasOpen = !kms.sealed;
  const sealing = kms.seal({ actor });
  // The keys are gone; only the last line of the log is waited for.
  spaceChanged();
  await sealing;
  if (wasOpen) log('warn', 'sealed', { actor });
}

async function unseal({ kms, log, spaceChanged }: Service, { actor }: Identity): Promise<void> {
  const wasSealed = kms.sealed;
  // It may have opened the store although it failed, or have found it open.
  await kms.unseal({ actor }).finally(spaceChanged);
  if (wasSealed) log('warn', 'unsealed', { actor });
}

async function rewrap(
  { log }: Service,
  { actor }: Identity,
  keys: EmbeddedKms | DatabaseKms,
  keyId: string,
  newKekHex?: string,
): Promise<CreatedKey> {
  const key = await keys.rewrapDek(keyId, newKekHex === undefined ? { actor } : { actor, newKekHex });
  if (newKekHex !== undefined) log('warn', 'slot_added', { actor, key_id: keyId });
  return key;
}

async function rotate({ kms, log }: Service, { actor }: Identity, options: RotationOptions): Promise<unknown> {
  const status = await kms.rotateKek({ ...options, actor });
  const { dryRun, abandon, newKekHex, newMasterKeyFile } = options;
  if (dryRun !== true) {
    log('warn', 'rotate_kek', {
      actor,
      rotation_id: status.rotationId,
      new_master_key: newKekHex !== undefined || newMasterKeyFile !== undefined || undefined,
      abandoned: abandon?.join(', '),
    });
  }
  return rotationMapOf(status);
}

async function slots({ kms, log }: Service, { actor }: Identity, request: SlotRequest): Promise<unknown> {
  if (request.action === 'add') {
    const slot = await kms.addSlot(request.slot, { actor });
    log('warn', 'slot_added', { actor, slot_id: slot.slotId });
    return [slotMapOf(slot)];
  }
  if (request.action === 'confirm') {
    const left = await kms.confirmSlot({ actor });
    log('warn', 'slot_confirmed', { actor, slots: left.length });
    return left.map(slotMapOf);
  }
  if (request.action === 'remove') {
    await kms.removeSlot(request.slotId, { actor });
    log('warn', 'slot_removed', { actor, slot_id: request.slotId });
  }
  return (await kms.slots()).map(slotMapOf);
}

function resultsOfRewrap(key: { wrapped: Uint8Array; kekId: string; kekVersion: string }): unknown[] {
  return [key.wrapped, key.kekId, key.kekVersion];
}

async function status(service: Service): Promise<unknown> {
  const { kms } = service;
  return statusMapOf(await kms.health(), {
    version: service.version,
    pid: process.pid,
    uptimeMs: performance.now() - service.startedAt,
    connections: service.connections(),
    cachedKeys: kms.cachedKeys,
    dataDir: kms.dataDir ?? '',
    keys: await keysStatus(kms),
  });
}

async function keysStatus(kms: EmbeddedKms): Promise<KeysStatus | undefined> {
  try {
    const [rotation, all] = [await kms.rotationStatus(), await kms.slots()];
    return { rotation, pendingSlots: all.filter(awaitsStart).length };
  } catch (error) {
    if (error instanceof KmsError && error.code === 'SEALED') return undefined;
    throw error;
  }
}
