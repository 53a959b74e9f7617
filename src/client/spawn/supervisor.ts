import { fstatSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { ERROR_TABLE, type ErrorCode, KmsError } from '../../errors.js';
import type { ConnectOptions } from '../index.js';
import type { RemoteKms } from '../remote.js';
import { Daemon, type Ending } from './daemon.js';
import { invalid, type Settings, type SpawnedKms, type SpawnOptions, settingsOf } from './options.js';
import { Place } from './place.js';
import { type Reports, reportsTo } from './reports.js';

type Connect = (options: ConnectOptions & { socket: string }) => Promise<RemoteKms>;

/** Between two questions to a daemon that did not answer the first. */
const ASK_AGAIN_MS = 50;

/** Starts a daemon, waits until it answers, and keeps one running from there. */
export async function supervise(options: SpawnOptions, connect: Connect): Promise<SpawnedKms> {
  const settings = settingsOf(options);
  checkKeyDescriptor(settings.masterKeyFd);
  const { onExit } = options;
  if (onExit !== undefined && typeof onExit !== 'function') throw invalid('onExit', 'a function was expected');
  const supervisor = new Supervisor(settings, connect, reportsTo(options.logger), onExit);
  await supervisor.begin();
  return supervisor;
}

/** What is read from a pipe is gone, and the daemon after the next crash would have no key. */
function checkKeyDescriptor(fd: number | undefined): void {
  if (fd === undefined) return;
  let isFile = false;
  try {
    isFile = fstatSync(fd).isFile();
  } catch {
    // It is not open.
  }
  if (!isFile) throw invalid('masterKeyFd', 'an open regular file was expected, which a restart can read again');
}

class Supervisor implements SpawnedKms {
  restarts = 0;
  private readonly place: Place;
  /** A later `chdir` must not change what relative paths among the flags mean. */
  private readonly directory = process.cwd();
  private readonly ending = new AbortController();
  private daemon: Daemon;
  private supervision = Promise.resolve();
  private stopped: Promise<void> | undefined;
  /** Daemons in a row that did not serve for long. */
  private failures = 0;
  private servesSince = Number.POSITIVE_INFINITY;

  constructor(
    private readonly settings: Settings,
    private readonly connectTo: Connect,
    private readonly reports: Reports,
    private readonly onExit: SpawnOptions['onExit'],
  ) {
    this.place = Place.at(settings.socket);
    this.daemon = this.start();
    // For an end without `stop`. The daemon sees to its own.
    process.on('exit', this.place.remove);
  }

  get socket(): string {
    return this.place.path;
  }

  get endpoint(): string {
    return `unix:${this.place.path}`;
  }

  get pid(): number | undefined {
    return this.daemon.pid;
  }

  connect(options: Parameters<SpawnedKms['connect']>[0] = {}): Promise<RemoteKms> {
    return this.connectTo({ ...options, socket: this.place.path });
  }

  stop(): Promise<void> {
    this.stopped ??= this.end();
    return this.stopped;
  }

  /** Rejects with why the first daemon does not serve, and nothing is left of it. */
  async begin(): Promise<void> {
    try {
      await this.serving(this.daemon);
    } catch (error) {
      this.ending.abort();
      this.daemon.kill('SIGKILL');
      await this.daemon.ended;
      this.remove();
      throw error;
    }
    this.supervision = this.restartForEver();
  }

  private async end(): Promise<void> {
    this.ending.abort();
    // Before the daemon goes: who connects from here need not wait for one that never comes.
    this.remove();
    await this.daemon.stop(this.settings.stopGraceMs);
    await this.supervision;
    this.reports.event('info', 'kms_stopped', {});
  }

  private remove(): void {
    process.off('exit', this.place.remove);
    this.place.remove();
  }

  private start(): Daemon {
    const daemon = new Daemon(this.settings, this.place.fd, this.directory, this.reports.said);
    this.servesSince = Number.POSITIVE_INFINITY;
    this.reports.event('info', 'kms_started', { pid: daemon.pid });
    return daemon;
  }

  private async restartForEver(): Promise<void> {
    const { signal } = this.ending;
    for (;;) {
      const ending = await this.daemon.ended;
      if (signal.aborted) return;
      const pauseMs = this.nextPause();
      this.report(ending, pauseMs);
      if (pauseMs === undefined) break;
      await delay(pauseMs, undefined, { signal }).catch(() => {});
      // Also when `onExit` asked for it. Nothing is waited for between this look and the start.
      if (signal.aborted) return;
      this.restarts++;
      this.daemon = this.start();
      this.watchStart(this.daemon);
    }
    this.remove();
  }

  /** One that does not come to serve is as good as ended. */
  private watchStart(daemon: Daemon): void {
    this.serving(daemon).catch((error) => {
      // A stop has a time of its own.
      if (this.ending.signal.aborted) return;
      if (daemon.pid !== undefined) this.reports.event('error', 'kms_not_serving', { pid: daemon.pid, message: error.message });
      daemon.kill('SIGKILL');
    });
  }

  private nextPause(): number | undefined {
    const { restartMinMs, restartMaxMs, maxRestarts } = this.settings;
    const hasServed = performance.now() - this.servesSince >= restartMaxMs;
    this.failures = hasServed ? 1 : this.failures + 1;
    if (this.failures > maxRestarts) return undefined;
    return Math.min(restartMaxMs, restartMinMs * 2 ** Math.min(this.failures - 1, 30));
  }

  private report(ending: Ending, restartInMs: number | undefined): void {
    const { pid, code, signal, reason } = ending;
    this.reports.event('error', 'kms_ended', { pid, code, signal, reason, restart_in_ms: restartInMs });
    try {
      this.onExit?.({ ...ending, restartInMs });
    } catch (error) {
      this.reports.event('error', 'on_exit_failed', { message: String(error) });
    }
  }

  /** Resolves when the daemon has answered. Rejects if it ends, or in `startTimeoutMs`. */
  private async serving(daemon: Daemon): Promise<void> {
    const asking = new AbortController();
    const ended = daemon.ended.then((ending) => {
      throw notStarted(ending);
    });
    try {
      await Promise.race([this.answer(asking.signal), ended]);
      if (daemon === this.daemon) this.servesSince = performance.now();
    } finally {
      asking.abort();
    }
  }

  /** A greeting: it listens with its keys open, so that is its health, too, and any user who is admitted may ask for it. */
  private async answer(signal: AbortSignal): Promise<void> {
    const { startTimeoutMs } = this.settings;
    const until = performance.now() + startTimeoutMs;
    for (let left = startTimeoutMs; left > 0; left = Math.ceil(until - performance.now())) {
      try {
        const kms = await this.connectTo({ socket: this.place.path, connectTimeoutMs: left, deadlineMs: left });
        return await kms.close();
      } catch (error) {
        if (!isTemporary(error)) throw error;
      }
      await delay(ASK_AGAIN_MS, undefined, { signal });
    }
    throw new KmsError('DEADLINE_EXCEEDED', `the daemon did not answer in ${startTimeoutMs} ms`);
  }
}

function isTemporary(error: unknown): boolean {
  return error instanceof KmsError && (error.code === 'STORE_UNAVAILABLE' || error.code === 'DEADLINE_EXCEEDED');
}

/** Under the code that the daemon's exit stands for. */
function notStarted({ code, signal, reason }: Ending): KmsError {
  const known = Object.entries(ERROR_TABLE).find(([, { exit }]) => exit === code) as [ErrorCode, { message: string }] | undefined;
  const [name, { message }] = known ?? ['STORE_UNAVAILABLE', ERROR_TABLE.STORE_UNAVAILABLE];
  const how = signal === null ? (code === null ? '' : ` (exit code ${code})`) : ` (${signal})`;
  const why = reason.replace(/^progressdb-kms: /, '').replace(`${message}: `, '');
  return new KmsError(name as ErrorCode, `the daemon did not start${how}: ${why || 'it said nothing'}`);
}
