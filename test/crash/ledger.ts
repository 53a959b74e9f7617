import type { EmbeddedKms } from '../../dist/create.js';
import type { KeyState, Provider } from '../../dist/provider.js';

export interface Sealed {
  message: Buffer;
  ciphertext: Uint8Array;
}

export interface Entry {
  /** The states that the key may be found in: the last acknowledged one, and while a change is under way, what it changes to. */
  readonly states: readonly KeyState[];
  readonly sealed: readonly Sealed[];
  /** Encryptions that were answered. */
  readonly used: number;
  /** That it is destroyed was answered, which promises more than that it is found so. */
  readonly isGone?: boolean;
}

/** Whether a master key has to open the store, may, or must not any more. */
export type Opens = 'yes' | 'maybe' | 'no';

const NEW_KEY: Entry = { states: ['active'], sealed: [], used: 0 };

/** What a service has promised so far, as the crash finds it. */
export class Ledger {
  readonly keys: Map<string, Entry>;
  /** By key file, the one to start with first. */
  readonly masters: Map<string, Opens>;
  /** Ciphertexts of the default key. */
  readonly defaults: Sealed[];
  /** Keys from before a rotation: while it is under way, and after it, their older records are kept, unless they are being destroyed. */
  readonly moved = new Set<string>();
  /** Slots that a start after a crash has told of. */
  readonly slots = new Set<string>();
  /** What must stand in the audit log, how often each: a type, a key id, a state. */
  readonly lines = new Map<string, number>();
  /** Creates under way: as many records may be there that nobody was told of. */
  #creating = 0;

  constructor(keys = new Map<string, Entry>(), masters = new Map<string, Opens>(), defaults: Sealed[] = []) {
    this.keys = keys;
    this.masters = masters;
    this.defaults = defaults;
  }

  copy(): Ledger {
    const copy = new Ledger(new Map(this.keys), new Map(this.masters), [...this.defaults]);
    copy.#creating = this.#creating;
    for (const keyId of this.moved) copy.moved.add(keyId);
    for (const slotId of this.slots) copy.slots.add(slotId);
    for (const [line, times] of this.lines) copy.lines.set(line, times);
    return copy;
  }

  get creating(): number {
    return this.#creating;
  }

  began(): void {
    this.#creating += 1;
  }

  created(keyId: string): void {
    this.#creating -= 1;
    this.change(keyId, {});
  }

  entry(keyId: string): Entry {
    return this.keys.get(keyId) ?? NEW_KEY;
  }

  change(keyId: string, change: Partial<Entry>): void {
    this.keys.set(keyId, { ...this.entry(keyId), ...change });
  }

  /** An administrative operation was answered, so that its line is in the log. */
  told(...line: string[]): void {
    const text = line.join(' ');
    this.lines.set(text, (this.lines.get(text) ?? 0) + 1);
  }

  /** A message that was sealed with a key, and may be opened as long as that is active. */
  sealed(keyId: string, sealed: Sealed): void {
    const before = this.entry(keyId);
    this.change(keyId, { sealed: [...before.sealed, sealed], used: before.used + 1 });
  }

  /** Takes over what `seen` says of the keys after a crash: what was under way then is no more. */
  tell(seen: Ledger): void {
    for (const [keyId, entry] of seen.keys) this.keys.set(keyId, entry);
    for (const slotId of seen.slots) this.slots.add(slotId);
    this.#creating = 0;
  }

  /** Two ledgers of one text promise the same. */
  text(): string {
    const keys = [...this.keys].map(([keyId, { states, sealed, used }]) => [keyId, states, sealed.length, used]);
    const told = [...this.lines.values()].reduce((sum, times) => sum + times, 0);
    return JSON.stringify([keys, [...this.masters], this.defaults.length, this.#creating, told, this.slots.size]);
  }
}

async function mustRefuse(kms: Provider, keyId: string, { message }: Sealed, code: string): Promise<void> {
  const refused = await kms.encryptWithDek(keyId, message).then(
    () => 'nothing',
    (error) => error.code,
  );
  if (refused !== code) throw new Error(`${keyId} should be refused with ${code}, not ${refused}`);
}

async function mustOpen(opened: Promise<Uint8Array>, { message }: Sealed, what: string): Promise<void> {
  const plaintext = await opened.catch((cause) => {
    throw new Error(`${what} does not decrypt`, { cause });
  });
  if (!message.equals(plaintext)) throw new Error(`${what} decrypts to something else`);
}

async function checkKey(kms: Provider, keyId: string, entry: Entry): Promise<KeyState> {
  const { state, usesReserved } = await kms.describeKey(keyId).catch((cause) => {
    throw new Error(`${keyId} is gone`, { cause });
  });
  if (!entry.states.includes(state)) throw new Error(`${keyId} is ${state}, not ${entry.states.join(' or ')}`);
  if (usesReserved < entry.used) throw new Error(`${keyId} counts ${usesReserved} uses, ${entry.used} were answered`);
  for (const sealed of entry.sealed) {
    if (state === 'active') await mustOpen(kms.decryptWithDek(keyId, sealed.ciphertext), sealed, keyId);
    else await mustRefuse(kms, keyId, sealed, state === 'disabled' ? 'KEY_DISABLED' : 'KEY_DESTROYED');
  }
  return state;
}

/**
 * Throws unless the open service keeps every promise. Returns the ledger as it stands after this was looked at: what was seen
 * has been told, and may not change back by a crash that comes later.
 */
export async function audited(kms: EmbeddedKms, ledger: Ledger): Promise<Ledger> {
  const seen = ledger.copy();
  for (const [keyId, entry] of ledger.keys) seen.change(keyId, { states: [await checkKey(kms, keyId, entry)] });
  for (const sealed of ledger.defaults) await mustOpen(kms.decrypt(sealed.ciphertext), sealed, 'a message of the default key');
  let untold = 0;
  for await (const { keyId, fault } of kms.verifyRecords()) {
    if (fault !== null) throw new Error(`the record of ${keyId} is damaged: ${fault}`);
    if (ledger.keys.has(keyId)) continue;
    untold += 1;
    seen.change(keyId, {});
  }
  if (untold > ledger.creating) throw new Error(`${untold} records that nobody was told of, ${ledger.creating} were being made`);
  const slots = (await kms.slots()).map(({ slotId }) => slotId);
  for (const slotId of ledger.slots) if (!slots.includes(slotId)) throw new Error(`the slot ${slotId} is gone`);
  for (const slotId of slots) seen.slots.add(slotId);
  const { status, storeFault } = await kms.health();
  if (status !== 'ok') throw new Error(`health is ${status}: ${storeFault}`);
  return seen;
}
