import { asKmsError } from '../errors.js';

export type Level = 'debug' | 'info' | 'warn' | 'error';
export type Fields = Record<string, string | number | boolean | null | undefined>;
/** One event. Fields never hold content (plaintext, ciphertext, AAD, wrapped keys) or key material. */
export type Log = (level: Level, event: string, fields?: Fields) => void;

const RANK: Record<Level, number> = { debug: 0, info: 1, warn: 2, error: 3 };

/** One JSON line per event of at least `least` to `write`. */
export function jsonLog(least: Level = 'info', write: (line: string) => void = (line) => process.stderr.write(line)): Log {
  return (level, event, fields) => {
    if (RANK[level] < RANK[least]) return;
    write(`${JSON.stringify({ time: new Date().toISOString(), level, event, ...fields })}\n`);
  };
}

/** What an operator needs of an error. Only here does an INTERNAL's cause appear: peers get the code and its text. */
export function errorFields(error: unknown): Fields {
  const known = asKmsError(error);
  const { cause } = known;
  return { code: known.code, message: known.message, cause: cause instanceof Error ? (cause.stack ?? cause.message) : undefined };
}

/** Single lines of one event up to this many a second; the rest of the second is one line with their number. */
const SINGLE_LINES = 10;

/** An event that a peer can cause at will: it must not be able to fill the disk with it. `turn` is called once a second. */
export class Burst {
  private lines = 0;
  private swallowed = 0;

  constructor(
    private readonly log: Log,
    private readonly level: Level,
    private readonly event: string,
  ) {}

  note(fields: () => Fields): void {
    if (++this.lines <= SINGLE_LINES) this.log(this.level, this.event, fields());
    else this.swallowed++;
  }

  turn(): void {
    if (this.swallowed > 0) this.log(this.level, this.event, { more: this.swallowed });
    this.lines = 0;
    this.swallowed = 0;
  }
}
