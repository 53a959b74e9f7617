import { KmsError } from '../errors.js';
import { MAX_REMEMBERED_POLICIES } from '../limits.js';
import type { KeyDescription } from '../provider.js';
import { OP } from '../wire/frames.js';
import type { Call } from '../wire/messages.js';
import type { Identity } from './identity.js';

function refuse(): KmsError {
  return new KmsError('PERMISSION_DENIED', 'the token is not for this key or thread');
}

/** Whether an identity is for less than all threads and keys: then every request of it is looked at here. */
export function isNarrowed({ threadPrefixes, own }: Identity): boolean {
  return threadPrefixes !== undefined || own === true;
}

function coversThread({ threadPrefixes }: Identity, threadId: string): boolean {
  return threadPrefixes === undefined || threadPrefixes.some((prefix) => threadId.startsWith(prefix));
}

/**
 * Keeps narrowed identities to their threads and keys. A key's thread and maker never change (they are bound into its wrapped
 * key), so that what was found once holds for good. What is not found is not remembered: a key may be made later.
 */
export class Policy {
  /** By identity, not by its name: a token that is changed is another one. */
  private readonly found = new WeakMap<Identity, Map<string, boolean>>();

  constructor(private readonly describe: (keyId: string) => Promise<KeyDescription>) {}

  /** Throws PERMISSION_DENIED for what the identity is not for, KEY_NOT_FOUND for a key that does not exist. */
  async check(identity: Identity, call: Call): Promise<void> {
    if (!isNarrowed(identity)) return;
    if (call.op === OP.createDekForThread || call.op === OP.createDek) {
      const thread = (call.op === OP.createDekForThread ? call.threadId : call.label) ?? '';
      if (!coversThread(identity, thread)) throw refuse();
      return;
    }
    // The default key is everybody's: it belongs to no thread, and the service itself made it.
    if (call.op === OP.encrypt || call.op === OP.decrypt) await this.checkKey(identity, call.keyId);
    else if (call.op === OP.encryptMany || call.op === OP.decryptMany) await this.checkKey(identity, call.keyId);
    else if (call.op === OP.setKeyState) await this.checkKey(identity, call.keyId);
    // Nothing else is for the role that such an identity has, but to be greeted.
    else if (call.op !== OP.hello) throw refuse();
  }

  private async checkKey(identity: Identity, keyId: string | undefined): Promise<void> {
    if (keyId === undefined || !(await this.covers(identity, keyId))) throw refuse();
  }

  private async covers(identity: Identity, keyId: string): Promise<boolean> {
    const verdicts = this.found.get(identity) ?? new Map<string, boolean>();
    this.found.set(identity, verdicts);
    const known = verdicts.get(keyId);
    if (known !== undefined) return known;
    const { threadId, createdBy } = await this.describe(keyId);
    const covers = coversThread(identity, threadId ?? '') && (identity.own !== true || createdBy === identity.actor);
    if (verdicts.size >= MAX_REMEMBERED_POLICIES) verdicts.clear();
    verdicts.set(keyId, covers);
    return covers;
  }
}
