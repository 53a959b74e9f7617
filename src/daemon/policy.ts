import { KmsError } from '../errors.js';
import { MAX_POLICIES, MAX_REMEMBERED_POLICIES } from '../limits.js';
import { BIT, binding, POLICY_SHIFT } from '../native.js';
import type { KeyDescription } from '../provider.js';
import { OP } from '../wire/frames.js';
import type { Call } from '../wire/messages.js';
import { ANONYMOUS, type Identity, may } from './identity.js';

function refuse(): KmsError {
  return new KmsError('PERMISSION_DENIED', 'the token is not for this key or thread');
}

/** Whether an identity is for less than all threads and keys: then each key it names is looked at here before it serves. */
export function isNarrowed({ threadPrefixes, own }: Identity): boolean {
  return threadPrefixes !== undefined || own === true;
}

function coversThread({ threadPrefixes }: Identity, threadId: string): boolean {
  return threadPrefixes === undefined || threadPrefixes.some((prefix) => threadId.startsWith(prefix));
}

/** All that a verdict depends on, beside the key: identities that agree in it share what was found, a changed one does not. */
function contentOf({ actor, threadPrefixes, own }: Identity): string {
  return JSON.stringify([own === true ? actor : null, threadPrefixes ?? null]);
}

/** Where keys are looked up: those of the store, or of a database in it. */
export interface Described {
  readonly databaseId?: string;
  describeKey(keyId: string): Promise<KeyDescription>;
}

/** What was found for identities that are for the same. */
interface Found {
  /** By which the native core knows it; made when it is first asked for. */
  number: number | undefined;
  verdicts: Map<string, boolean>;
}

/**
 * Keeps narrowed identities to their threads and keys. A key's thread and maker never change (they are bound into its wrapped
 * key), so that what was found once holds for good. What is not found is not remembered: a key may be made later. On the hot
 * path the native core asks here once for each key and then serves it by the policy's number alone.
 */
export class Policy {
  private readonly outside: Described;
  /** By content, in the order they were first asked for. */
  private readonly found = new Map<string, Found>();
  /** Verdicts in all of them. */
  private remembered = 0;

  constructor(describe: (keyId: string) => Promise<KeyDescription>) {
    this.outside = { describeKey: describe };
  }

  /** Of a narrowed identity, for the native core. 0 when none is left: then every request of it has to come through `check`. */
  numberOf(identity: Identity): number {
    const found = this.foundFor(identity);
    found.number ??= binding.newPolicy();
    return found.number;
  }

  /** What the native core has to know of who asks. */
  bitsOf(identity: Identity): number {
    if (identity === ANONYMOUS) return BIT.unknown;
    const role = may(identity, 'client') ? BIT.client : 0;
    if (!isNarrowed(identity)) return role;
    const number = this.numberOf(identity);
    return number === 0 ? BIT.cold : role | (number << POLICY_SHIFT);
  }

  /** Throws PERMISSION_DENIED for what the identity is not for, KEY_NOT_FOUND for a key that does not exist. */
  async check(identity: Identity, call: Call, keys: Described = this.outside): Promise<void> {
    if (!isNarrowed(identity)) return;
    if (call.op === OP.createDekForThread || call.op === OP.createDek) {
      const thread = (call.op === OP.createDekForThread ? call.threadId : call.label) ?? '';
      if (!coversThread(identity, thread)) throw refuse();
      return;
    }
    // The default key is everybody's: it belongs to no thread, and the service itself made it.
    if (call.op === OP.encrypt || call.op === OP.decrypt) await this.checkKey(identity, call.keyId, keys);
    else if (call.op === OP.encryptMany || call.op === OP.decryptMany) await this.checkKey(identity, call.keyId, keys);
    else if (call.op === OP.setKeyState) await this.checkKey(identity, call.keyId, keys);
    // Nothing else is for the role that such an identity has, but to be greeted, and to see what it made itself.
    else if (call.op !== OP.hello && call.op !== OP.ownedKeys) throw refuse();
  }

  /** Of a narrowed identity. Throws as `check`. */
  async checkKey(identity: Identity, keyId: string | undefined, keys: Described = this.outside): Promise<void> {
    if (keyId === undefined || !(await this.covers(identity, keyId, keys))) throw refuse();
  }

  private async covers(identity: Identity, keyId: string, keys: Described): Promise<boolean> {
    // A key id is one database's: what was found there says nothing of another one's.
    const name = keys.databaseId === undefined ? keyId : `${keys.databaseId} ${keyId}`;
    const known = this.foundFor(identity).verdicts.get(name);
    if (known !== undefined) return known;
    const { threadId, createdBy } = await keys.describeKey(keyId);
    const covers = coversThread(identity, threadId ?? '') && (identity.own !== true || createdBy === identity.actor);
    this.remember(identity, name, covers);
    return covers;
  }

  private remember(identity: Identity, keyId: string, covers: boolean): void {
    const { verdicts } = this.foundFor(identity);
    // Who asks for very many keys forgets its own, not those of others.
    if (verdicts.size >= MAX_REMEMBERED_POLICIES / 4) this.forget(verdicts);
    if (this.remembered >= MAX_REMEMBERED_POLICIES) for (const other of this.found.values()) this.forget(other.verdicts);
    const before = verdicts.size;
    verdicts.set(keyId, covers);
    this.remembered += verdicts.size - before;
  }

  private forget(verdicts: Map<string, boolean>): void {
    this.remembered -= verdicts.size;
    verdicts.clear();
  }

  private foundFor(identity: Identity): Found {
    const content = contentOf(identity);
    const known = this.found.get(content);
    if (known !== undefined) return known;
    const [oldest] = this.found;
    if (this.found.size >= MAX_POLICIES && oldest !== undefined) {
      this.forget(oldest[1].verdicts);
      this.found.delete(oldest[0]);
    }
    const made: Found = { number: undefined, verdicts: new Map() };
    this.found.set(content, made);
    return made;
  }
}
