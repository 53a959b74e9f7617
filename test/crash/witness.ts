import { randomBytes } from 'node:crypto';
import type { KeyState, Provider } from '../../dist/provider.js';
import type { Ledger } from './ledger.js';

const CHANGES = { active: 'enableKey', disabled: 'disableKey', destroyed: 'destroyKey' } as const;

/** Works with a service and keeps the ledger: an intent is entered before the call, what was answered after it. */
export class Witness<Kms extends Provider = Provider> {
  readonly ledger: Ledger;
  readonly kms: Kms;

  constructor(kms: Kms, ledger: Ledger) {
    this.kms = kms;
    this.ledger = ledger;
  }

  async create(threadId = 'crash/laboratory'): Promise<string> {
    this.ledger.began();
    const { keyId } = await this.kms.createDekForThread(threadId);
    this.ledger.created(keyId);
    this.ledger.told('create_dek', keyId);
    return keyId;
  }

  async seal(keyId: string): Promise<void> {
    const message = randomBytes(16);
    const { ciphertext } = await this.kms.encryptWithDek(keyId, message);
    this.ledger.sealed(keyId, { message, ciphertext });
  }

  async created(count: number): Promise<string[]> {
    const keyIds = await Promise.all(Array.from({ length: count }, () => this.create()));
    await Promise.all(keyIds.map((keyId) => this.seal(keyId)));
    return keyIds;
  }

  /** One encryption of which only the count is remembered. */
  async use(keyId: string): Promise<void> {
    await this.kms.encryptWithDek(keyId, Buffer.alloc(8));
    this.ledger.change(keyId, { used: this.ledger.entry(keyId).used + 1 });
  }

  async sealDefault(): Promise<void> {
    // It may make a key.
    this.ledger.began();
    const message = randomBytes(16);
    this.ledger.defaults.push({ message, ciphertext: await this.kms.encrypt(message) });
  }

  async change(keyId: string, state: KeyState): Promise<void> {
    const { states } = this.ledger.entry(keyId);
    // A destroy takes the older records first: from here on none of this key need be there, even if the key itself survives.
    if (state === 'destroyed') this.ledger.moved.delete(keyId);
    this.ledger.change(keyId, { states: [...new Set([...states, state])] });
    await this.kms[CHANGES[state]](keyId);
    this.ledger.change(keyId, { states: [state], isGone: state === 'destroyed' });
    this.ledger.told('key_state', keyId, state);
  }
}
