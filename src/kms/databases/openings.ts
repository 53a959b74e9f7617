import type { AuditLog } from '../../audit/audit-log.js';
import { MAX_OPENING_GROUPS, OPENINGS_INTERVAL_MS } from '../../limits.js';

interface Group {
  actor: string;
  database: string | undefined;
  count: number;
}

/**
 * Who opened which database, for the audit log: the first time at once, then in groups. Over HTTP each request opens and leaves one: a
 * line for each would bury the others.
 */
export class Openings {
  readonly #audit: AuditLog;
  readonly #groups = new Map<string, Group>();
  #timer: NodeJS.Timeout | undefined;

  constructor(audit: AuditLog) {
    this.#audit = audit;
  }

  note(actor: string, database: string): void {
    const key = `${database} ${actor}`;
    const known = this.#groups.get(key);
    if (known !== undefined) {
      known.count += 1;
      return;
    }
    if (this.#groups.size >= MAX_OPENING_GROUPS) {
      this.#noteOther(actor);
      return;
    }
    this.#groups.set(key, { actor, database, count: 0 });
    this.#write({ actor, database, count: 1 });
    this.#timer ??= setTimeout(() => this.turn(), OPENINGS_INTERVAL_MS).unref();
  }

  #noteOther(actor: string): void {
    const group = this.#groups.get('') ?? { actor, database: undefined, count: 0 };
    group.count += 1;
    this.#groups.set('', group);
  }

  #write({ actor, database, count }: Group): void {
    if (count === 0) return;
    this.#audit.note({ type: 'database', actor, outcome: 'ok', detail: { act: 'opened', database: database ?? null, count } });
  }

  /** Writes what has gathered. Called before the log ends, too. */
  turn(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const groups = [...this.#groups.values()];
    this.#groups.clear();
    for (const group of groups) this.#write(group);
  }
}
