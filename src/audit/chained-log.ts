import { randomBytes } from 'node:crypto';
import type { AuditChain } from '../audit-chain.js';
import { KmsError } from '../errors.js';
import {
  AUDIT_DRAIN_BYTES,
  AUDIT_INTERVAL_MS,
  AUDIT_WAITING_BYTES,
  CHECKPOINT_LINES,
  CHECKPOINT_MS,
  CHECKPOINTS_PER_KEY,
  LAST_LINES_MS,
} from '../limits.js';
import type { FileSystem } from '../store/file-system.js';
import type { DataOperations, Vault } from '../vault.js';
import type { AuditEvent, AuditState, FollowedSpace, LastLines, OpenAuditLog } from './audit-log.js';
import { membersOf } from './event-text.js';
import type { LogEnd } from './log-end.js';
import type { LogFile } from './log-file.js';
import { type Ground, openLogGround } from './log-ground.js';
import { type SigningKeyStore, SigningKeys } from './signing-keys.js';

export interface Forwarding {
  offer(lines: Uint8Array): void;
  /** Lines given up so far. */
  dropped(): number;
}

export interface AuditSettings {
  dataOperations: DataOperations;
  /** X25519: the epoch key is sealed to it, so that its holder can check every line. */
  auditorKey?: Uint8Array;
  /** Data operations go on while events cannot be written. */
  continueOnFailure: boolean;
  /** A log or keyring that is older than the other one is taken as it is. */
  acceptRollback: boolean;
  maxFileBytes: number;
  version: string;
  /** Who acts where nobody else does. */
  actor: string;
  forwarding?: Forwarding;
}

/** The open store that the log is of. */
export interface Audited extends SigningKeyStore {
  readonly storeId: string;
  readonly generation: number;
}

const BOOT_BYTES = 8;
const RESERVE_EVERY_TICKS = 10;

function signersOf({ auditKeys }: Audited): string[] {
  return auditKeys.map(({ publicKey }) => Buffer.from(publicKey).toString('base64'));
}

/** Throws unless keyring and log can be of one time. */
function refuseRollback(end: LogEnd, keyring: Audited): void {
  const refuse = (what: string) => {
    throw new KmsError('STORE_UNAVAILABLE', `${what}; put back what is missing, or start with --accept-rollback`);
  };
  const keys = signersOf(keyring);
  if (end.seq === 0 && keys.length === 1) refuse('the audit log is gone');
  if (end.generation > keyring.generation) {
    refuse(`the keyring (generation ${keyring.generation}) is older than the audit log (generation ${end.generation})`);
  }
  if (end.seq > 0 && !keys.includes(end.signingKey)) refuse('the keyring does not hold the key that signs the audit log');
}

/**
 * The audit log of an open store: each line chained to the one before by the native core, signed at checkpoints, written in groups.
 * Lines are made in the order in which they are asked for, and are on their way to the disk from then on.
 */
export class ChainedLog implements OpenAuditLog {
  readonly #settings: AuditSettings;
  readonly #vault: Vault;
  readonly #keyring: Audited;
  readonly #file: LogFile;
  readonly #keys: SigningKeys;
  readonly #chain: AuditChain;
  readonly #followed = new Set<FollowedSpace>();
  #timer: NodeJS.Timeout | undefined;
  #ticks = 0;
  #seq: number;
  #checkpointSeq: number;
  #checkpointAt = Date.now();
  #checkpoints = 0;
  #succeeding: Promise<void> | undefined;
  #refusing = false;

  /** Throws AUDIT_UNAVAILABLE if no line can be written, STORE_UNAVAILABLE for a keyring or log that is older than the other one. */
  static async open(
    system: FileSystem,
    dataDir: string,
    vault: Vault,
    keyring: Audited,
    settings: AuditSettings,
  ): Promise<ChainedLog> {
    const { maxFileBytes, acceptRollback, forwarding } = settings;
    const onDurable = (lines: Uint8Array) => forwarding?.offer(lines);
    const may = { mayBeginAnew: acceptRollback, signers: signersOf(keyring) };
    const ground = await openLogGround(system, dataDir, { maxFileBytes, ...may, onDurable });
    let log: ChainedLog | undefined;
    try {
      if (!acceptRollback) refuseRollback(ground.end, keyring);
      log = new ChainedLog(vault, keyring, settings, ground);
      await log.#begin(ground);
      return log;
    } catch (error) {
      if (log !== undefined) log.#end();
      await ground.file.close();
      throw error;
    }
  }

  private constructor(vault: Vault, keyring: Audited, settings: AuditSettings, { file, end }: Ground) {
    this.#vault = vault;
    this.#keyring = keyring;
    this.#settings = settings;
    this.#file = file;
    this.#keys = SigningKeys.open(vault, keyring, end.signingKey);
    const boot = randomBytes(BOOT_BYTES).toString('hex');
    this.#chain = vault.openChain(keyring.storeId, boot, { seq: end.seq, prev: end.hash });
    this.#seq = end.seq;
    this.#checkpointSeq = end.checkpointSeq;
  }

  /** The lines of a start. Nothing is served before they are durable. */
  async #begin({ file, torn, recorded }: Ground): Promise<void> {
    const { auditorKey, dataOperations, version, actor } = this.#settings;
    await file.reserve();
    file.refuseIfFailed();
    const announced = await this.#keys.prepare();
    const base64 = (bytes: Uint8Array | undefined) => (bytes === undefined ? null : Buffer.from(bytes).toString('base64'));
    const epochKey = auditorKey === undefined ? undefined : this.#chain.sealEpochKey(auditorKey);
    this.#line({
      type: 'start',
      actor,
      outcome: 'ok',
      detail: {
        format: 1,
        store_id: this.#keyring.storeId,
        version,
        signing_key: this.#keys.publicKey,
        epoch_key: base64(epochKey),
        auditor_key: base64(auditorKey),
        data_operations: dataOperations,
      },
    });
    for (const { bytes, sha256, file: name } of torn)
      this.#line({ type: 'recovered', actor, detail: { bytes, sha256, file: name } });
    const complete = this.#announce(announced);
    await file.flush();
    await complete();
    for (const one of torn) await recorded(one);
    this.#vault.setDataAudit(dataOperations, actor);
    this.#timer = setInterval(() => this.#tick(), AUDIT_INTERVAL_MS).unref();
  }

  #line(event: Partial<AuditEvent> & Pick<AuditEvent, 'type' | 'actor'>, signing = 0): void {
    this.#file.append(this.#chain.line(this.#members(event), signing));
    this.#seq += 1;
  }

  /** Made together they cost half of what they cost singly. */
  #lines(events: readonly AuditEvent[]): void {
    const seq = this.#seq;
    this.#file.append(this.#chain.lines(events.map((event) => this.#members(event))));
    this.#seq = this.#chain.head().seq;
    const failed = events[this.#seq - seq];
    if (failed !== undefined) this.#line(failed);
  }

  #members(event: Partial<AuditEvent> & Pick<AuditEvent, 'type' | 'actor'>): string {
    const isOfData = event.type === 'get_wrapped' || event.type === 'denied';
    return membersOf(event, isOfData ? undefined : this.#keyring.generation);
  }

  /** The key in use names its successor, which signs from there on. What is returned ends the succession once that is durable. */
  #announce(publicKey: string): () => Promise<void> {
    this.#line({ type: 'signing_key', actor: this.#settings.actor, detail: { public: publicKey } }, this.#keys.handle);
    const { complete } = this.#keys.take();
    this.#checkpoints = 0;
    this.#checkpoint();
    return complete;
  }

  #checkpoint(): void {
    const lines = this.#seq - this.#checkpointSeq;
    const detail = { lines, signing_key: this.#keys.publicKey };
    this.#line({ type: 'checkpoint', actor: this.#settings.actor, detail }, this.#keys.handle);
    this.#checkpointSeq = this.#seq;
    this.#checkpointAt = Date.now();
    this.#checkpoints += 1;
  }

  #checkpointIfDue(): void {
    const lines = this.#seq - this.#checkpointSeq;
    if (lines >= CHECKPOINT_LINES || (lines > 0 && Date.now() - this.#checkpointAt >= CHECKPOINT_MS)) this.#checkpoint();
  }

  /** What data operations have done since the last time. */
  #drain(): void {
    this.#drainSpace(0);
    for (const { space } of this.#followed) this.#drainSpace(space);
  }

  #drainSpace(space: number): void {
    for (;;) {
      const lines = this.#chain.takeData(AUDIT_DRAIN_BYTES, space);
      if (lines.length === 0) return;
      this.#file.append(lines);
      this.#seq = this.#chain.head().seq;
      this.#checkpointIfDue();
    }
  }

  #tick(): void {
    this.#ticks += 1;
    // What cannot be written stays where it is counted.
    if (this.#file.fault === null) {
      if (this.#hasRoom) this.#drain();
    } else if (this.#ticks % RESERVE_EVERY_TICKS === 0) void this.#file.reserve().then(() => this.#followFault());
    this.#checkpointIfDue();
    if (this.#checkpoints >= CHECKPOINTS_PER_KEY) this.#succeed();
    void this.#flush().catch(() => undefined);
  }

  #succeed(): void {
    this.#succeeding ??= (async () => {
      const announced = await this.#keys.prepare();
      if (this.#timer === undefined) return;
      const complete = this.#announce(announced);
      await this.#flush();
      await complete();
    })()
      // Tried again with the next checkpoint that is due; until then the key in use goes on.
      .catch(() => undefined)
      .finally(() => {
        this.#succeeding = undefined;
      });
  }

  async #flush(): Promise<void> {
    try {
      await this.#file.flush();
    } finally {
      this.#followFault();
    }
  }

  /** Data operations are refused as long as nothing can be written of them, unless the operator wants them to go on. */
  #followFault(): void {
    const { continueOnFailure, dataOperations, actor } = this.#settings;
    const failing = this.#file.fault !== null;
    if (failing === this.#refusing || this.#timer === undefined) return;
    this.#refusing = failing;
    for (const one of [this.#vault, ...this.#followed]) {
      if (!continueOnFailure) one.setDataRefusal(failing);
      // Counted in groups they take no more room, however long it lasts.
      else if (dataOperations === 'each') one.setDataAudit(failing ? 'grouped' : 'each', actor);
    }
  }

  follow(vault: FollowedSpace, database: string): void {
    const { continueOnFailure, dataOperations, actor } = this.#settings;
    vault.setDataAudit(this.#refusing && dataOperations === 'each' ? 'grouped' : dataOperations, actor, database);
    if (this.refusesData && !continueOnFailure) vault.setDataRefusal(true);
    this.#followed.add(vault);
  }

  /** While nothing can be written its lines wait in memory, as those of administrative events do: it is the last chance to make them. */
  leave(vault: FollowedSpace): void {
    if (!this.#followed.delete(vault)) return;
    this.#drainSpace(vault.space);
  }

  refuseIfFailed(): void {
    const { fault } = this.state();
    if (fault !== null) throw new KmsError('AUDIT_UNAVAILABLE', fault);
  }

  async write(event: AuditEvent): Promise<void> {
    this.note(event);
    await this.#flush();
  }

  async writeAll(events: readonly AuditEvent[]): Promise<void> {
    // No further from a checkpoint than one by one: a start looks for the last one only so far back.
    for (let at = 0; at < events.length; ) {
      const most = Math.max(1, CHECKPOINT_LINES - (this.#seq - this.#checkpointSeq));
      this.#lines(events.slice(at, at + most));
      this.#checkpointIfDue();
      at += most;
    }
    await this.#flush();
  }

  note(event: AuditEvent): void {
    this.#line(event);
    this.#checkpointIfDue();
  }

  state(): AuditState {
    const { forwarding } = this.#settings;
    const fault = this.#file.fault ?? (this.#hasRoom ? null : 'the audit log: the disk does not take its lines');
    return { seq: this.#seq, fault, notForwarded: forwarding?.dropped() ?? 0 };
  }

  get refusesData(): boolean {
    return this.#refusing && !this.#settings.continueOnFailure;
  }

  async dataWritten(): Promise<void> {
    try {
      this.#file.refuseIfFailed();
      while (!this.#hasRoom) await this.#flush();
      this.#drain();
      await this.#flush();
    } catch (error) {
      if (!this.#settings.continueOnFailure) throw error;
    }
  }

  /** On a disk that takes nothing, and does not fail either, what data operations do stays where it is bounded. */
  get #hasRoom(): boolean {
    return this.#file.waitingBytes < AUDIT_WAITING_BYTES;
  }

  finish(event: AuditEvent): LastLines {
    if (this.#file.fault === null) this.#drain();
    this.#line(event);
    this.#checkpoint();
    this.#end();
    const late = new Promise<void>((resolve) => setTimeout(resolve, LAST_LINES_MS).unref());
    const closed = Promise.resolve(this.#succeeding).then(() => this.#file.close());
    return { closed, told: Promise.race([closed, late]) };
  }

  #end(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#chain.close();
  }
}
