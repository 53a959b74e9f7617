import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AuditLog } from '../audit/audit-log.js';
import { asKmsError, type ErrorCode, KmsError } from '../errors.js';
import { LEAD_LOOK_MS, LEADERLESS_LOOK_MS, MAX_BLOCKERS, MOST_LEAD_LOOKS, ROTATION_WIDTH } from '../limits.js';
import type { RotationStatus } from '../provider.js';
import type { KeyStore } from '../store/key-store.js';
import type { Handle } from '../vault.js';
import { BulkMoves, type BulkStep } from './bulk-moves.js';
import { ShareMoves } from './databases/share-moves.js';
import { dueReason } from './due.js';
import { countKeys, walkKeys } from './key-walk.js';
import { newKekId } from './keyring-document.js';
import { Leadership } from './leadership.js';
import type { Messages } from './messages.js';
import type { Opened } from './opened.js';
import { Probes } from './probes.js';
import { Pace, Progress } from './progress.js';
import { Rewrapping, rotationIdOf, Unsound } from './rewrapping.js';

export interface RotationSettings {
  /** Rotations of which the backups stay. */
  keepBackups: number;
  /** Keys rewrapped per second at most, 0 for any number: for what is not told, and what a start resumes. */
  keysPerSecond: number;
  /** Age of the active KEK at which a rotation is due; 0 for never. */
  dueDays: number;
}

export interface RotationOrder {
  actor: string;
  /** Opens the store, too, from here on. */
  master?: Handle | undefined;
  keysPerSecond?: number | undefined;
  abandon: readonly string[];
}

/** True for a key that is settled, false for one that is destroyed or gone. */
type Visit = (keyId: string) => Promise<boolean>;
/** What holds a rotation up is named by its key, or so by its database. */
function databaseBlocker(databaseId: string): string {
  return `database ${databaseId}`;
}

type Phase = NonNullable<RotationStatus['phase']>;

/**
 * Succeeds the KEK while all keys serve, by the one rule that it always goes forward, and that any key that could open the
 * store before a step opens it after a crash. Crash story: from the write of step 1 until that of step 4 the keyring holds both
 * KEKs, so that every record opens, moved or not; a start that finds two of them goes on from step 2, which passes over what has
 * been moved. Step 4 comes only after every record was read back.
 */
export class Rotation {
  readonly #opened: Opened;
  readonly #store: KeyStore;
  readonly #audit: AuditLog;
  readonly #settings: RotationSettings;
  readonly #messages: Messages;
  readonly #rewrapping: Rewrapping;
  readonly #leadership: Leadership;
  readonly #shares: ShareMoves;
  readonly #stopping = new AbortController();
  #looking: NodeJS.Timeout | undefined;
  readonly #blockers = new Map<string, string>();
  #probes: Probes;
  #running: Promise<void> | undefined;
  #isBeginning = false;
  #state: RotationStatus['state'] = 'idle';
  #phase: Phase | null = null;
  #rotationId: string | null = null;
  #progress: Progress | undefined;
  #total = 0;
  #done = 0;
  #startedAt: string | null = null;
  #finishedAt: string | null = null;
  #error: string | null = null;

  constructor(opened: Opened, store: KeyStore, messages: Messages, audit: AuditLog, settings: RotationSettings) {
    this.#opened = opened;
    this.#store = store;
    this.#messages = messages;
    this.#audit = audit;
    this.#settings = settings;
    this.#leadership = new Leadership(opened.sharing);
    // Whoever is throttled waits on it: that so many do is no leak, which Node would warn of.
    setMaxListeners(0, this.#stopping.signal);
    this.#rewrapping = new Rewrapping(opened, store.backups);
    this.#shares = new ShareMoves(opened, store.sealed, this.#stopping.signal, () => this.#refuseIfLost());
    this.#probes = new Probes(opened, messages);
  }

  status(): RotationStatus {
    const { active, isRotating } = this.#opened.keyring;
    const now = performance.now();
    // Opened only to look at: nobody has resumed it.
    const isRunning = this.#state === 'running';
    const isLeft = isRotating && this.#state === 'idle' && !this.#isBeginning;
    return {
      state: isLeft ? 'failed' : this.#state,
      rotationId: isLeft ? this.#rewrapping.rotationId : this.#rotationId,
      phase: this.#phase,
      kekId: active.kekId,
      kekVersion: String(active.kekVersion),
      total: this.#total,
      done: this.#done,
      keysPerSecond: isRunning ? Math.round(this.#progress?.keysPerSecond(now) ?? 0) : 0,
      secondsLeft: isRunning ? (this.#progress?.secondsLeft(now) ?? null) : null,
      startedAt: this.#startedAt,
      finishedAt: this.#finishedAt,
      blockedBy: [...this.#blockers].slice(0, MAX_BLOCKERS).map(([keyId, reason]) => ({ keyId, reason })),
      error: isLeft ? 'it was interrupted; a start resumes it' : this.#error,
      due: dueReason(active, Date.now(), this.#settings.dueDays),
    };
  }

  /** The same, whichever daemon leads. */
  async statusNow(): Promise<RotationStatus> {
    const own = this.status();
    if (!this.#leadership.isShared || this.#state === 'running') return own;
    const { isRotating } = this.#opened.keyring;
    // It was this one that completed it.
    if (!isRotating && own.state === 'idle' && own.rotationId === this.#rewrapping.rotationId) return own;
    const { kekId, kekVersion, due } = own;
    let told: RotationStatus | undefined;
    try {
      told = await this.#leadership.told(this.#rewrapping.rotationId);
    } catch (error) {
      // What is known without the database, and that it is no more than that.
      return { ...own, state: isRotating ? 'running' : own.state, error: asKmsError(error).message };
    }
    // One that has died is succeeded; who succeeds it has not spoken yet.
    if (told === undefined) return isRotating ? { ...own, state: 'running', error: null } : own;
    if (isRotating || told.state === 'idle') return { ...told, kekId, kekVersion, due };
    return { ...told, state: 'idle', phase: null, kekId, kekVersion, due };
  }

  /** Resolves when no step of it is under way any more. What it has not done, the next start does, or another daemon. */
  async stop(): Promise<void> {
    clearInterval(this.#looking);
    this.#stopping.abort();
    await this.#running;
  }

  /** Goes on with a rotation that an earlier process, or an earlier run of this one, left; later on with those of others. */
  resume(actor: string): void {
    if (!this.#leadership.isShared) {
      if (this.#opened.keyring.isRotating && this.#running === undefined) this.#start(actor, this.#settings.keysPerSecond);
      return;
    }
    void this.#takeOver(actor, true);
    this.#looking = setInterval(() => void this.#takeOver(actor, false), LEADERLESS_LOOK_MS).unref();
  }

  /** Leads a rotation that nobody leads. `evenBlocked`: one that stands still for a reason, which may be mended. */
  async #takeOver(actor: string, evenBlocked: boolean): Promise<void> {
    const { keyring } = this.#opened;
    if (!keyring.isRotating || this.#running !== undefined || this.#isBeginning) return;
    this.#isBeginning = true;
    try {
      const isLeft = async () => {
        const told = await this.#leadership.told(this.#rewrapping.rotationId);
        return evenBlocked || told === undefined || told.state === 'running';
      };
      // Asked once more as its leader: the one before may just have said how it ended.
      if (!(await isLeft()) || !(await this.#leadership.take()) || !(await isLeft())) return;
      await keyring.refresh();
      if (keyring.isRotating && !this.#stopping.signal.aborted) this.#start(actor, this.#settings.keysPerSecond);
    } catch {
      // A store that cannot be reached is asked again.
    } finally {
      this.#isBeginning = false;
      if (this.#running === undefined) await this.#leadership.release();
    }
  }

  /** Resolves when it does not run any more, here or elsewhere. */
  async ended(): Promise<void> {
    await this.#running;
    while (this.#leadership.isShared && !this.#stopping.signal.aborted && (await this.statusNow()).state === 'running') {
      await sleep(LEADERLESS_LOOK_MS, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
    }
    if (this.#stopping.signal.aborted) throw new KmsError('SEALED');
  }

  /**
   * Step 1, or, where a rotation stands still, its resumption. CONFLICT while one is running, unless it only has to leave keys
   * behind.
   */
  async begin(order: RotationOrder): Promise<void> {
    const { keyring } = this.#opened;
    if (this.#isBeginning) throw new KmsError('CONFLICT', 'a rotation is under way');
    this.#isBeginning = true;
    try {
      // One that has ended and is still saying so.
      if (this.#state !== 'running') await this.#running;
      this.#audit.refuseIfFailed();
      const isLeaving = order.abandon.length > 0;
      const leads = await this.#takeLead();
      if (!leads && !isLeaving) throw new KmsError('CONFLICT', 'a rotation is under way, which another daemon leads');
      if (isLeaving && !keyring.isRotating)
        throw new KmsError('CONFLICT', 'no rotation is under way that could leave keys behind');
      if (keyring.isRotating && (order.master !== undefined || (this.#running !== undefined && !isLeaving))) {
        throw new KmsError('CONFLICT', 'a rotation is under way');
      }
      for (const keyId of order.abandon) await this.#abandon(keyId, order.actor);
      // One that was only to leave keys behind may have ended meanwhile: nobody asked for another.
      if (!keyring.isRotating && isLeaving) return;
      if (!keyring.isRotating) await this.#switchKek(order);
      if (this.#running !== undefined || !leads) return;
      this.#total = await countKeys(this.#store);
      this.#start(order.actor, order.keysPerSecond ?? this.#settings.keysPerSecond);
    } finally {
      this.#isBeginning = false;
      if (this.#running === undefined) await this.#leadership.release();
    }
  }

  /** With the newest keyring. Who only looks whether a rotation was left has the lead, too, for a moment. */
  async #takeLead(): Promise<boolean> {
    const { keyring } = this.#opened;
    for (let looks = 1; ; looks += 1) {
      const leads = await this.#leadership.take();
      await keyring.refresh();
      if (leads || keyring.isRotating || looks === MOST_LEAD_LOOKS) return leads;
      await sleep(LEAD_LOOK_MS, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
    }
  }

  /** Opens every record as a rotation would: what it would have to do, and what would hold it up. */
  async rehearse(): Promise<RotationStatus> {
    if (this.#opened.keyring.isRotating || this.#isBeginning) throw new KmsError('CONFLICT', 'a rotation is under way');
    const blockedBy: RotationStatus['blockedBy'] = [];
    let [total, done] = [0, 0];
    await walkKeys(this.#store, ROTATION_WIDTH, async (keyId) => {
      if (this.#stopping.signal.aborted) throw new KmsError('SEALED');
      const outcome = await this.#outcomeOf(keyId, () => this.#rewrapping.inspect(keyId));
      if (outcome === false) return;
      total += 1;
      if (outcome === true) done += 1;
      else if (blockedBy.length < MAX_BLOCKERS) blockedBy.push({ keyId, reason: outcome });
    });
    await this.#shares.inspectAll((database, reason) => {
      if (blockedBy.length < MAX_BLOCKERS) blockedBy.push({ keyId: databaseBlocker(database), reason });
    });
    return { ...this.status(), state: blockedBy.length > 0 ? 'blocked' : 'idle', rotationId: null, total, done, blockedBy };
  }

  /** The keyring as it was is kept before a master key is added to it: with it and the backups the old one opens what it did. */
  async #switchKek({ master, actor }: RotationOrder): Promise<void> {
    const { keyring } = this.#opened;
    const kekId = newKekId();
    if (master !== undefined) await this.#store.backups.keepKeyring(rotationIdOf(keyring.active.kekVersion + 1, kekId));
    await keyring.beginRotation(kekId, master);
    this.#probes = new Probes(this.#opened, this.#messages);
    this.#startedAt = null;
    await this.#tell(actor, 'begun', 'ok', { with_master_key: master !== undefined });
  }

  async #tell(actor: string, phase: string, outcome: 'ok' | ErrorCode, more: Record<string, string | number | boolean> = {}) {
    const { rotationId } = this.#rewrapping;
    const detail = { rotation_id: rotationId, phase, kek_version: this.#opened.keyring.active.kekVersion, ...more };
    await this.#audit.write({ type: 'rotate_kek', actor, outcome, detail });
  }

  /** Only what is not sound is left behind, whatever its backup is: everything encrypted under it is lost. */
  async #abandon(keyId: string, actor: string): Promise<void> {
    const { records, cache } = this.#opened;
    const outcome = await this.#outcomeOf(keyId, () => this.#rewrapping.inspect(keyId).then(() => true));
    if (outcome === false) throw new KmsError('KEY_NOT_FOUND');
    if (outcome === true) throw new KmsError('CONFLICT', `the record of ${keyId} is sound and is not left behind`);
    await this.#store.backups.setAside(this.#rewrapping.rotationId, keyId);
    records.forgetDamage(keyId);
    cache.retire(keyId, 'evicted');
    this.#blockers.delete(keyId);
    const detail = { rotation_id: this.#rewrapping.rotationId, phase: 'abandoned', reason: outcome };
    await this.#audit.write({ type: 'rotate_kek', actor, keyId, outcome: 'ok', detail });
  }

  /** What a visit of a record came to: its answer, false if there is no record, or the reason why that holds a rotation up. */
  async #outcomeOf(keyId: string, visit: () => Promise<boolean>): Promise<boolean | string> {
    try {
      return await visit();
    } catch (error) {
      if (error instanceof KmsError && error.code === 'KEY_NOT_FOUND') return false;
      const reason = error instanceof Unsound ? error.reason : this.#opened.records.reasonAgainst(keyId);
      if (reason === undefined) throw error;
      return reason;
    }
  }

  #start(actor: string, keysPerSecond: number): void {
    this.#state = 'running';
    this.#rotationId = this.#rewrapping.rotationId;
    this.#startedAt ??= new Date().toISOString();
    this.#finishedAt = null;
    this.#error = null;
    this.#blockers.clear();
    const telling = setInterval(() => this.#tellOthers(), LEADERLESS_LOOK_MS).unref();
    this.#running = this.#run(actor, new Pace(keysPerSecond)).finally(async () => {
      clearInterval(telling);
      await this.#leadership.release();
      this.#running = undefined;
    });
  }

  #tellOthers(): void {
    this.#leadership.tell(this.status()).catch(() => undefined);
  }

  async #run(actor: string, pace: Pace): Promise<void> {
    try {
      const isComplete = await this.#steps(pace);
      await this.#tell(actor, isComplete ? 'complete' : 'blocked', 'ok', { keys: isComplete ? this.#done : this.#blockers.size });
      if (isComplete) await this.#dropOlderBackups();
      this.#end(isComplete ? 'idle' : 'blocked');
    } catch (error) {
      // What a seal cut short is nobody's failure; the next session goes on with it.
      if (this.#stopping.signal.aborted) return;
      const { code, message } = asKmsError(error);
      this.#error = message;
      await this.#tell(actor, 'failed', code).catch(() => undefined);
      // A database comes back, and then a daemon goes on with what the others take for running.
      const isLeft = this.#leadership.isShared && code === 'STORE_UNAVAILABLE';
      this.#end(this.#opened.keyring.isRotating && !isLeft ? 'failed' : 'idle');
      if (isLeft) return;
    }
    await this.#leadership.tell(this.status()).catch(() => undefined);
  }

  /** False if records hold it up. */
  async #steps(pace: Pace): Promise<boolean> {
    const { keyring } = this.#opened;
    const { kekId } = keyring.active;
    this.#phase = 'drain';
    await keyring.drained();
    this.#phase = 'rewrap';
    await this.#probes.take(this.#store);
    await this.#moveAll(pace);
    const blocked = (database: string, reason: string) => this.#blockers.set(databaseBlocker(database), reason);
    await this.#shares.moveAll(blocked);
    if (this.#blockers.size > 0) return false;
    this.#phase = 'verify';
    await this.#verifyAll();
    await this.#shares.verifyAll(blocked);
    if (this.#blockers.size > 0) return false;
    await this.#probes.check();
    this.#phase = 'retire';
    await this.#leadership.everyoneHas(keyring.generation, this.#stopping.signal);
    await keyring.retireKeks(kekId);
    return true;
  }

  #end(state: RotationStatus['state']): void {
    this.#state = state;
    if (state !== 'idle') return;
    this.#phase = null;
    this.#finishedAt = new Date().toISOString();
  }

  async #moveAll(pace: Pace): Promise<void> {
    this.#total = await countKeys(this.#store);
    this.#done = 0;
    const turn = async () => {
      const wait = pace.wait(performance.now());
      if (wait > 0) await sleep(wait, undefined, { signal: this.#stopping.signal });
      this.#refuseIfLost();
    };
    const move = async (keyId: string) => (await this.#rewrapping.move(keyId, turn)).state !== 'destroyed';
    // A pace is kept key by key.
    const bulk = pace.isLimited ? undefined : this.#bulk();
    await (bulk === undefined ? this.#walk(move, true) : this.#walkPages(bulk, (page) => bulk.move(page), move, true));
  }

  async #verifyAll(): Promise<void> {
    const verify = (keyId: string) => this.#rewrapping.verify(keyId).then(() => true);
    const bulk = this.#bulk();
    await (bulk === undefined ? this.#walk(verify) : this.#walkPages(bulk, (page) => bulk.verify(page), verify));
  }

  #bulk(): BulkMoves | undefined {
    const { packed } = this.#store;
    return packed && new BulkMoves(this.#opened, packed, this.#rewrapping.rotationId);
  }

  async #walk(visit: Visit, isCounted = false): Promise<void> {
    this.#progress = new Progress(this.#total, performance.now());
    await walkKeys(this.#store, ROTATION_WIDTH, (keyId) => this.#visit(keyId, visit, isCounted));
  }

  async #walkPages(bulk: BulkMoves, step: BulkStep, visit: Visit, isCounted = false): Promise<void> {
    this.#progress = new Progress(this.#total, performance.now());
    await bulk.walk(step, async (keyIds, settled) => {
      this.#progress?.step(settled);
      if (isCounted) this.#count(true, settled);
      for (const keyId of keyIds) await this.#visit(keyId, visit, isCounted);
      if (this.#stopping.signal.aborted) throw new KmsError('SEALED');
    });
  }

  #refuseIfLost(): void {
    if (this.#leadership.isLost) throw new KmsError('STORE_UNAVAILABLE', 'another daemon may lead the rotation by now');
  }

  async #visit(keyId: string, visit: Visit, isCounted: boolean): Promise<void> {
    if (this.#stopping.signal.aborted) throw new KmsError('SEALED');
    this.#refuseIfLost();
    const outcome = await this.#outcomeOf(keyId, () => visit(keyId));
    // Another daemon may have ended the rotation by now, and what was read before is unsound by that.
    this.#refuseIfLost();
    this.#progress?.step();
    if (typeof outcome === 'string') this.#blockers.set(keyId, outcome);
    else if (isCounted) this.#count(outcome);
  }

  /** Keys made while it runs come on top; destroyed ones and those that are gone are none of it. */
  #count(isMoved: boolean, keys = 1): void {
    if (isMoved) this.#done += keys;
    else this.#total -= 1;
    this.#total = Math.max(this.#total, this.#done);
  }

  async #dropOlderBackups(): Promise<void> {
    const { rotationId } = this.#rewrapping;
    const all = await this.#store.backups.list();
    // This one's is the newest, whatever a rotation to the same version that never began has left.
    const kept = [...all.filter((one) => one !== rotationId), ...all.filter((one) => one === rotationId)];
    const { keepBackups } = this.#settings;
    for (const one of kept.slice(0, Math.max(0, kept.length - keepBackups))) await this.#store.backups.drop(one);
  }
}
