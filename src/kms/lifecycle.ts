import { type LastLines, NO_AUDIT, type OpenAuditLog } from '../audit/audit-log.js';
import { KmsError } from '../errors.js';
import { RETURN_USES_MS } from '../limits.js';
import { ownActor } from './calls.js';
import { DatabaseCounts } from './databases/database-counts.js';
import { type Opened, type OpenSettings, openStore } from './opened.js';
import { Session, type SessionSettings } from './session.js';
import { type IdleTimes, keepSwept } from './sweeper.js';

export interface EmbeddedSettings extends OpenSettings, IdleTimes, SessionSettings {
  /** Opens to look: the start confirms no slot and resumes no rotation. */
  inspect: boolean;
  /** Null for a store in memory. */
  dataDir: string | null;
  exposeRawKeys: boolean;
  /** Opens the audit log of a store that has just been opened; its start is durable when that resolves. */
  openAudit: (opened: Opened) => Promise<OpenAuditLog>;
  /** Gives back what the composer took for this provider: the store, the lock of the data directory. */
  release: () => Promise<void>;
}

interface Last extends LastLines {
  audit: OpenAuditLog;
  isClosed: boolean;
}

/** A provider from its opening to its end: when its store is open, sealed, and closed. */
export class Lifecycle {
  /** Of all sessions: to a scraper a counter that falls is a process that was started again. */
  readonly databaseCounts = new DatabaseCounts();
  readonly #settings: EmbeddedSettings;
  readonly #stopSweeping: () => void;
  #session: Session | null = null;
  #closing: Promise<void> | undefined;
  /** One opening at a time: of two, one would be lost with its keys unwiped. */
  #opening: Promise<void> | undefined;
  /** Raised by seal and close: an opening that began before must not put its session in place afterwards. */
  #epoch = 0;
  /** Writes that were under way at the last seal. The next session must not read what they are about to change. */
  #leftover: Promise<unknown> = Promise.resolve();
  /** The log of the last session, while its last lines are on their way: a second one on the same file would fork the chain. */
  #last: Last | undefined;

  private constructor(settings: EmbeddedSettings) {
    this.#settings = settings;
    this.#stopSweeping = keepSwept(settings);
  }

  static async open(settings: EmbeddedSettings): Promise<Lifecycle> {
    const lifecycle = new Lifecycle(settings);
    try {
      await lifecycle.#open(settings.initialise);
      return lifecycle;
    } catch (error) {
      lifecycle.#stopSweeping();
      throw error;
    }
  }

  async #open(initialise: boolean): Promise<void> {
    const epoch = this.#epoch;
    await this.#leftover;
    await this.#lastWritten();
    const onReserved = (keyId: string, uses: number) => this.#session?.defaultKey.reserved(keyId, uses);
    const opened = await openStore(this.#settings.store, this.#settings.master, { ...this.#settings, initialise }, onReserved);
    const session = new Session(opened, this.#settings, await this.#openAudit(opened), this.databaseCounts);
    if (epoch !== this.#epoch) {
      this.#leftover = this.#wipe(session, 'seal', ownActor()).settled;
      throw new KmsError('SEALED', 'it was sealed again');
    }
    this.#session = session;
    if (this.#settings.inspect === true) return;
    try {
      await session.confirm();
    } catch (error) {
      if (this.#session === session) await this.seal(ownActor());
      throw error;
    }
  }

  /** A store that is opened to be looked at writes no line. */
  async #openAudit(opened: Opened): Promise<OpenAuditLog> {
    if (this.#settings.inspect === true) return NO_AUDIT;
    try {
      return await this.#settings.openAudit(opened);
    } catch (error) {
      opened.cache.close();
      opened.vault.close();
      await opened.sharing?.stop();
      throw error;
    }
  }

  /** Null while it is sealed, and after its end. */
  get session(): Session | null {
    return this.#session;
  }

  /** Throws SEALED where there is none. */
  use(): Session {
    if (this.#session === null) throw new KmsError('SEALED', this.#closing === undefined ? undefined : 'it was closed');
    return this.#session;
  }

  async seal(actor: string): Promise<void> {
    this.#epoch += 1;
    const session = this.#session;
    this.#session = null;
    if (session === null) return;
    const { told, settled } = this.#wipe(session, 'seal', actor);
    this.#leftover = Promise.all([this.#leftover, settled]);
    await told;
  }

  #wipe(session: Session, type: 'stop' | 'seal', actor: string): ReturnType<Session['wipe']> {
    const ending = session.wipe(type, actor);
    const last: Last = { ...ending, audit: session.audit, isClosed: false };
    this.#last = last;
    void ending.closed.then(() => {
      last.isClosed = true;
    });
    return ending;
  }

  /** AUDIT_UNAVAILABLE unless the last lines of the log that is closed are durable. */
  async #lastWritten(): Promise<void> {
    const last = this.#last;
    await last?.told;
    if (last?.isClosed === false) throw new KmsError('AUDIT_UNAVAILABLE', 'the audit log: the disk does not take its last lines');
  }

  /** Resolves when the log has what data operations have done on the disk, those before a seal too. */
  async dataWritten(): Promise<void> {
    if (this.#session !== null) return this.#session.audit.dataWritten();
    await this.#lastWritten();
    this.#last?.audit.refuseIfFailed();
  }

  async unseal(actor: string): Promise<void> {
    if (this.#closing !== undefined) throw new KmsError('SEALED', 'it was closed');
    if (this.#session !== null) return;
    if (this.#opening !== undefined) return this.#opening;
    if (this.#settings.master.kind !== 'file') {
      throw new KmsError('UNSUPPORTED', 'the master key was not read from a file; start again with one');
    }
    this.#opening = this.#unseal(actor).finally(() => {
      this.#opening = undefined;
    });
    return this.#opening;
  }

  async #unseal(actor: string): Promise<void> {
    await this.#open(false);
    await this.#session?.audit.write({ type: 'unseal', actor, outcome: 'ok' });
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#epoch += 1;
    const session = this.#session;
    this.#session = null;
    try {
      // Its records would be written at the same time as the rests are returned to them, and one would wait for the other.
      await session?.administration.rotation.stop();
      await session?.opened.cache.returnUnused(RETURN_USES_MS);
      await session?.databases.returnUnused(RETURN_USES_MS);
    } finally {
      const written = session && this.#wipe(session, 'stop', ownActor()).settled;
      this.#stopSweeping();
      await Promise.allSettled([written, this.#opening, this.#leftover]);
      // Where the disk has not taken the last lines nobody waits any longer, but nobody else may open the log before it has.
      if (this.#last?.isClosed !== false) await this.#settings.release();
      else void this.#last.closed.then(this.#settings.release).catch(() => undefined);
    }
  }
}
