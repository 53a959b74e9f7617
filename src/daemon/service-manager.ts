import { MAX_TIMER_MS } from '../limits.js';
import { binding } from '../native.js';
import { errorFields, type Log } from './log.js';

/** A state must arrive, though a manager may be slow while a machine boots. A beat that is lost is followed by the next. */
const STATE_WAIT_MS = 5_000;
const BEAT_WAIT_MS = 50;

const VARIABLES = ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID'];

/**
 * The service manager that started us, by what sd_notify(3) and sd_watchdog_enabled(3) say; without one nothing is said. The
 * variables are taken out of `env`, so that no process of ours speaks for us.
 */
export function takeServiceManager(env: NodeJS.ProcessEnv, log: Log, ownPid = process.pid): ServiceManager {
  const { NOTIFY_SOCKET: address, WATCHDOG_USEC: usec, WATCHDOG_PID: pid } = env;
  for (const name of VARIABLES) delete env[name];
  const isWatched = address && usec && (pid === undefined || pid === String(ownPid));
  const beatMs = isWatched ? beatOf(usec) : undefined;
  if (isWatched && beatMs === undefined)
    log('warn', 'watchdog_ignored', { advice: 'WATCHDOG_USEC is no number of microseconds' });
  return new ServiceManager(address || undefined, beatMs, log);
}

/** Twice in the time after which the manager takes us for dead; undefined for what is no such time. */
function beatOf(usec: string): number | undefined {
  const isTime = /^\d{1,20}$/.test(usec) && Number(usec) > 0;
  return isTime ? Math.min(Math.max(Math.floor(Number(usec) / 2_000), 1), MAX_TIMER_MS) : undefined;
}

export class ServiceManager {
  private isHeard = true;

  constructor(
    private readonly address: string | undefined,
    private readonly beatMs: number | undefined,
    private readonly log: Log,
  ) {}

  ready(status: string): void {
    this.say(`READY=1\nSTATUS=${status.replace(/\p{Cc}/gu, '?')}`);
  }

  reloading(): void {
    // CLOCK_MONOTONIC, as the manager reads it: it tells an answer to its own request from an earlier one.
    this.say(`RELOADING=1\nMONOTONIC_USEC=${process.hrtime.bigint() / 1_000n}`);
  }

  stopping(): void {
    this.say('STOPPING=1\nSTATUS=stopping');
  }

  /** From now on, as long as the event loop turns and `check` resolves from one beat to the next. */
  watch(check: () => Promise<unknown>): void {
    if (this.beatMs === undefined) return;
    let isChecking = false;
    const beat = async () => {
      if (isChecking) return;
      isChecking = true;
      try {
        await check();
        this.say('WATCHDOG=1', BEAT_WAIT_MS);
      } catch (error) {
        this.log('error', 'watchdog_withheld', errorFields(error));
      }
      isChecking = false;
    };
    setInterval(beat, this.beatMs).unref();
    void beat();
  }

  /** We serve with a manager that cannot be told as well as without one: the first of its failures is said, in a row. */
  private say(message: string, waitMs = STATE_WAIT_MS): void {
    if (this.address === undefined) return;
    try {
      binding.notifyManager(this.address, message, waitMs);
      this.isHeard = true;
    } catch (error) {
      if (this.isHeard) this.log('warn', 'service_manager_not_told', errorFields(error));
      this.isHeard = false;
    }
  }
}
