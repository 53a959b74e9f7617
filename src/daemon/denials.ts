import type { AuditLog } from '../audit/audit-log.js';
import type { ErrorCode } from '../errors.js';

/** Refusals that get a line each, per second; whoever is refused on purpose must not be able to fill the disk. */
const SINGLE_LINES = 10;
/** Beyond these: lines that each stand for many. What fits in none of them is in the last one. */
const MAX_GROUPS = 32;

/** Who was refused what. */
export interface Denial {
  actor: string;
  /** `connect`, or the operation's name. */
  operation: string;
  outcome: ErrorCode;
  /** Where it came from, if that is known to be somewhere else. */
  address?: string | undefined;
}

interface Group {
  denial: Denial;
  count: number;
}

/** Writes what was refused to the audit log, singly up to a rate and then in groups. Nothing waits for it. */
export class Denials {
  readonly #open: () => AuditLog | undefined;
  readonly #groups = new Map<string, Group>();
  #lines = 0;

  /** The log is asked for each time: there is none while the store is sealed, and what comes meanwhile is kept in groups. */
  constructor(log: () => AuditLog | undefined) {
    this.#open = log;
  }

  /** While lines cannot be written, too, they are kept in groups: who is refused must not fill the memory either. */
  #log(): AuditLog | undefined {
    const log = this.#open();
    try {
      log?.refuseIfFailed();
      return log;
    } catch {
      return undefined;
    }
  }

  note(denial: Denial, times = 1): void {
    const log = this.#log();
    if (log !== undefined && this.#lines < SINGLE_LINES) {
      this.#lines += 1;
      write(log, { denial, count: times });
      return;
    }
    const { actor, operation, outcome } = denial;
    const key = JSON.stringify([actor, operation, outcome]);
    const group = this.#groups.get(key);
    if (group !== undefined) group.count += times;
    else if (this.#groups.size < MAX_GROUPS) this.#groups.set(key, { denial: { actor, operation, outcome }, count: times });
    else this.#noteOther(outcome, times);
  }

  #noteOther(outcome: ErrorCode, times: number): void {
    const group = this.#groups.get('') ?? { denial: { actor: 'anonymous', operation: 'any', outcome }, count: 0 };
    group.count += times;
    this.#groups.set('', group);
  }

  /** Called once a second, and before the log ends. */
  turn(): void {
    this.#lines = 0;
    const log = this.#log();
    if (log === undefined) return;
    for (const group of this.#groups.values()) write(log, group);
    this.#groups.clear();
  }
}

function write(log: AuditLog, { denial, count }: Group): void {
  const { actor, operation, outcome, address } = denial;
  const where = address === undefined || address === '' ? {} : { address };
  log.note({ type: 'denied', actor, outcome, detail: { operation, ...where, count } });
}
