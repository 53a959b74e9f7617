import { writeSync } from 'node:fs';
import type { KeyState } from '../../dist/provider.js';
import { type Entry, Ledger, type Sealed } from './ledger.js';

interface Told {
  states?: readonly KeyState[];
  used?: number;
  sealed?: ReadonlyArray<readonly [message: string, ciphertext: string]>;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** The ledger of a process that will be killed: each entry is a line on its standard output before the next step is taken. */
export class ToldLedger extends Ledger {
  #say(...words: unknown[]): void {
    writeSync(1, `${JSON.stringify(words)}\n`);
  }

  override began(): void {
    super.began();
    this.#say('began');
  }

  override created(keyId: string): void {
    super.created(keyId);
    this.#say('created', keyId);
  }

  override told(...line: string[]): void {
    super.told(...line);
    this.#say('told', ...line);
  }

  override change(keyId: string, change: Partial<Entry>): void {
    super.change(keyId, change);
    const sealed = change.sealed?.map(({ message, ciphertext }) => [hex(message), hex(ciphertext)]);
    this.#say('change', keyId, { ...change, sealed });
  }
}

/** Enters a line of a told ledger here; false for a line that is none. */
export function hear(ledger: Ledger, line: string): boolean {
  if (!line.startsWith('[')) return false;
  const words = JSON.parse(line) as [string, string?, Told?];
  const [what, keyId = '', told = {}] = words;
  if (what === 'told') ledger.told(...(words.slice(1) as string[]));
  if (what === 'began') ledger.began();
  if (what === 'created') ledger.created(keyId);
  if (what === 'change') ledger.change(keyId, entryOf(told));
  return true;
}

function entryOf({ states, used, sealed }: Told): Partial<Entry> {
  const messages = sealed?.map(([message, ciphertext]): Sealed => {
    return { message: Buffer.from(message, 'hex'), ciphertext: Buffer.from(ciphertext, 'hex') };
  });
  return { ...(states && { states }), ...(used !== undefined && { used }), ...(messages && { sealed: messages }) };
}
