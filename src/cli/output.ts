import { type Failure, fileFailure, isSystemError } from './failure.js';

/** Data goes to stdout, everything said about it to stderr. */
export class Output {
  readonly json: boolean;
  readonly verbose: boolean;
  /** Ends with the last write of data. */
  #written: Promise<void> = Promise.resolve();
  #lost: Error | undefined;

  constructor(json: boolean, verbose: boolean) {
    this.json = json;
    this.verbose = verbose;
  }

  /** One result: its JSON form on one line, or its text, nothing if that is empty. */
  result(json: unknown, text: string): void {
    if (this.json) this.data(`${JSON.stringify(json)}\n`);
    else if (text !== '') this.data(`${text}\n`);
  }

  /** To stdout as it is. */
  data(text: string): void {
    this.#written = new Promise((done) => {
      process.stdout.write(text, (error) => {
        if (error) this.#lost ??= error;
        done();
      });
    });
  }

  /** When all data is out: whether somebody took it. A reader that went away has not read it all. */
  async wasTaken(): Promise<boolean> {
    await this.#written;
    return this.#lost === undefined;
  }

  /** When all data is out: why it is not, undefined if it is. A reader that went away has read what it wanted. */
  async loss(): Promise<Failure | undefined> {
    await this.#written;
    if (this.#lost === undefined || (isSystemError(this.#lost) && this.#lost.code === 'EPIPE')) return undefined;
    return fileFailure('write', 'standard output', this.#lost);
  }

  /** For people: neither data nor an error. */
  note(line: string): void {
    if (!this.json) process.stderr.write(`progressdb-kms: ${line}\n`);
  }

  detail(line: string): void {
    if (this.verbose) process.stderr.write(`progressdb-kms: ${line}\n`);
  }

  failure({ code, message, hint, exit }: Failure): void {
    if (this.json) process.stderr.write(`${JSON.stringify({ error: { code, message, hint, exit } })}\n`);
    else process.stderr.write(`progressdb-kms: ${message}\n${hint === undefined ? '' : `hint: ${hint}\n`}`);
  }
}

/** `1 key`, `2 keys`. */
export function keysText(count: number): string {
  return `${count} ${count === 1 ? 'key' : 'keys'}`;
}

/** `name: value` lines with the values in one column. */
export function columns(rows: Array<[name: string, value: string]>): string {
  const width = Math.max(...rows.map(([name]) => name.length)) + 2;
  return rows.map(([name, value]) => `${`${name}:`.padEnd(width)}${value}`).join('\n');
}

/** Rows with each column as wide as its widest cell. */
export function table(rows: string[][]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] as string).length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] as number))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** The members under the names that docs/PROTOCOL.md gives them: `storeFault` becomes `store_fault`, lists too. */
export function wireNames(map: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(map).map(([name, value]) => [
      name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      Array.isArray(value) ? value.map((item) => (item !== null && typeof item === 'object' ? wireNames(item) : item)) : value,
    ]),
  );
}
