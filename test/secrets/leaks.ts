import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { inspect } from 'node:util';
import type { Place } from './served.js';
import { MAIN, Printed } from './served.js';

const WINDOW = 16;
const NUMBERS = 10;

/** How a part of a secret would look in what is printed, by the name of the form. All are bytes of the output. */
function formsOf(secret: Buffer): Map<string, Buffer> {
  const hex = secret.toString('hex');
  const base64 = secret.toString('base64').replace(/=+$/, '');
  const texts: Array<[string, string]> = [
    ['hex', hex.slice(0, 2 * WINDOW)],
    ['end of hex', hex.slice(-2 * WINDOW)],
    ['upper hex', hex.slice(0, 2 * WINDOW).toUpperCase()],
    ['inspected buffer', (hex.slice(0, 2 * WINDOW).match(/../g) ?? []).join(' ')],
    ['base64', base64.slice(0, 20)],
    ['end of base64', base64.slice(-20)],
    ['base64url', secret.toString('base64url').slice(0, 20)],
    ['utf-8 text', secret.subarray(0, WINDOW).toString('utf8')],
    ['latin1 text', secret.subarray(0, WINDOW).toString('latin1')],
  ];
  const raw: Array<[string, Buffer]> = [
    ['bytes', secret.subarray(0, WINDOW)],
    ['last bytes', secret.subarray(-WINDOW)],
  ];
  return new Map([...raw, ...texts.map(([form, text]) => [form, Buffer.from(text, 'utf8')] as [string, Buffer])]);
}

/** Numbers alone, so that all ways to print an array of bytes look alike, with and without their indexes. */
function numbersOf(output: Buffer): string {
  return `,${output.toString('latin1').replace(/[^0-9]+/g, ',')},`;
}

function numberForms(secret: Buffer): string[] {
  const bytes = [...secret.subarray(0, NUMBERS)];
  return [`,${bytes.join(',')},`, `,${bytes.map((byte, index) => `${index},${byte}`).join(',')},`];
}

/** Everything that processes and calls of one scenario said, by who said it. Data that was asked for is not put in. */
export class Collected {
  readonly #said: Array<{ source: string; bytes: Buffer }> = [];

  add(source: string, said: Buffer | string): void {
    this.#said.push({ source, bytes: Buffer.from(said) });
  }

  /** An error as a program that logs it would print it: message, stack, members, causes. */
  addError(source: string, error: unknown): void {
    this.add(source, `${inspect(error, { depth: 10, showHidden: true })}\n${JSON.stringify(error)}\n${String(error)}`);
  }

  get text(): string {
    return Buffer.concat(this.#said.map(({ bytes }) => bytes)).toString('utf8');
  }

  /** `source: secret as form` of each secret that somebody said. */
  leaks(secrets: ReadonlyMap<string, Buffer>): string[] {
    const forms = new Map([...secrets].map(([name, secret]) => [name, formsOf(secret)]));
    const leaks: string[] = [];
    for (const { source, bytes } of this.#said) {
      const numbers = numbersOf(bytes);
      for (const [name, secret] of secrets) {
        if (secret.length < WINDOW) throw new Error(`${name} is too short to be told from what is no secret`);
        for (const [form, part] of forms.get(name)!) if (bytes.includes(part)) leaks.push(`${source}: ${name} as ${form}`);
        if (numberForms(secret).some((list) => numbers.includes(list))) leaks.push(`${source}: ${name} as numbers`);
      }
    }
    return leaks;
  }
}

export interface RunOptions {
  stdin?: Buffer;
  env?: NodeJS.ProcessEnv;
  /** Standard output is the data that was asked for: it is returned and not collected. */
  asksForData?: boolean;
  nodeOptions?: string[];
}

/** The command line in a place; what it says is collected. */
export class Commands {
  constructor(
    private readonly at: Place,
    private readonly collected: Collected,
  ) {}

  async run(args: string[], options: RunOptions = {}): Promise<{ exit: number | null; stdout: Buffer }> {
    const env = { PATH: process.env['PATH'], PROGRESSDB_KMS_SOCKET: this.at.socket, ...options.env };
    const child = spawn(process.execPath, [...(options.nodeOptions ?? []), MAIN, ...args], { cwd: this.at.directory, env });
    const stdout: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
    const stderr = new Printed({ stderr: child.stderr });
    child.stdin.on('error', () => {});
    child.stdin.end(options.stdin);
    const [exit] = (await once(child, 'close')) as [number | null];
    const source = `progressdb-kms ${args.join(' ')}`;
    this.collected.add(source, Buffer.concat(stderr.chunks));
    if (!options.asksForData) this.collected.add(source, Buffer.concat(stdout));
    return { exit, stdout: Buffer.concat(stdout) };
  }

  /** Runs it with and without --json, one after the other. Returns the exit codes. */
  async both(...args: string[]): Promise<Array<number | null>> {
    return [(await this.run([...args, '--verbose'])).exit, (await this.run([...args, '--json'])).exit];
  }
}
