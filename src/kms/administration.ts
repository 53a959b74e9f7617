import type { AuditLog } from '../audit/audit-log.js';
import { asKmsError, KmsError } from '../errors.js';
import { SLOT_LIFE_MS } from '../limits.js';
import type { CreatedKey, RotationStatus, SlotDescription } from '../provider.js';
import type { KeyMeta, KeyringSlot, KeyStore, SlotKind } from '../store/key-store.js';
import type { Handle, MasterSource } from '../vault.js';
import { audited } from './audited.js';
import type { Messages } from './messages.js';
import { type NewMaster, readNewMaster } from './new-master.js';
import type { Opened } from './opened.js';
import { Rewrapping } from './rewrapping.js';
import { Rotation, type RotationOrder, type RotationSettings } from './rotation.js';

export interface AdministrationSettings extends RotationSettings {
  /** What the store was opened with. */
  master: MasterSource;
}

type NamedSlot = Pick<KeyringSlot, 'slotId' | 'kind' | 'state'>;

function slotDetail(act: string, { slotId, kind, state }: NamedSlot) {
  return { act, slot_id: slotId, kind, state };
}

function endOf(expires: boolean): string {
  return expires ? new Date(Date.now() + SLOT_LIFE_MS).toISOString() : '';
}

/** What changes the ways into a store, and the KEK of its keys. Each act is durable, then told to the audit log, then answered. */
export class Administration {
  readonly rotation: Rotation;
  readonly #opened: Opened;
  readonly #store: KeyStore;
  readonly #audit: AuditLog;
  readonly #master: MasterSource;
  readonly #rewrapping: Rewrapping;

  constructor(opened: Opened, store: KeyStore, messages: Messages, audit: AuditLog, settings: AdministrationSettings) {
    this.#opened = opened;
    this.#store = store;
    this.#audit = audit;
    this.#master = settings.master;
    this.#rewrapping = new Rewrapping(opened, store.backups);
    this.rotation = new Rotation(opened, store, messages, audit, settings);
  }

  /** Runs `work` with a master key that is in the vault only that long. */
  async #withMaster<T>(master: NewMaster, work: (handle: Handle) => Promise<T>): Promise<T> {
    const { vault } = this.#opened;
    const handle = readNewMaster(vault, master, this.#master);
    try {
      return await work(handle);
    } finally {
      vault.release(handle);
    }
  }

  async #tellSlot(actor: string, act: string, slot: NamedSlot): Promise<void> {
    await this.#audit.write({ type: 'slot', actor, outcome: 'ok', detail: slotDetail(act, slot) });
  }

  get slots(): SlotDescription[] {
    return this.#opened.keyring.slots;
  }

  async addSlot(master: NewMaster, kind: SlotKind, expires: boolean, actor: string): Promise<SlotDescription> {
    const role = { kind, state: 'pending', expiresAt: endOf(expires) } as const;
    const add = () => this.#withMaster(master, (handle) => this.#opened.keyring.addSlot(handle, role));
    const event = { type: 'slot', actor, detail: { act: 'added', kind } } as const;
    return audited(this.#audit, event, add, (slot) => ({ detail: slotDetail('added', slot) }));
  }

  /** The keyrings that were kept go first: they have the slot, too, and no crash may leave them to who is to open nothing. */
  async removeSlot(slotId: string, actor: string): Promise<void> {
    const { keyring } = this.#opened;
    const remove = async () => {
      keyring.slotsWithout(slotId);
      await this.#opened.sharing?.refuseUsed(slotId);
      await this.#store.backups.dropKeyrings();
      return keyring.removeSlot(slotId);
    };
    const event = { type: 'slot', actor, detail: { act: 'removed', slot_id: slotId } } as const;
    await audited(this.#audit, event, remove, (slot) => ({ detail: slotDetail('removed', slot) }));
  }

  /** The rotation tells of itself; what it refuses to begin is told here. */
  async rotate(order: RotationOrder, master: NewMaster | undefined, wait: boolean): Promise<RotationStatus> {
    try {
      if (master === undefined) await this.rotation.begin(order);
      else await this.#withMaster(master, (handle) => this.rotation.begin({ ...order, master: handle }));
    } catch (error) {
      this.#audit.note({ type: 'rotate_kek', actor: order.actor, outcome: asKmsError(error).code });
      throw error;
    }
    if (wait) await this.rotation.ended();
    return this.rotation.statusNow();
  }

  async rewrap(keyId: string, master: NewMaster | undefined, actor: string): Promise<CreatedKey> {
    const move = () => this.#rewrapped(keyId, master, actor);
    const told = ({ threadId, kekVersion }: KeyMeta) => ({ threadId, detail: { kek_version: kekVersion } });
    const { wrapped, kekId, kekVersion } = await audited(this.#audit, { type: 'rewrap', actor, keyId }, move, told);
    return { keyId, wrapped, kekId, kekVersion: String(kekVersion) };
  }

  /** The key first: a slot is not added for a key that is not there. */
  async #rewrapped(keyId: string, master: NewMaster | undefined, actor: string): Promise<KeyMeta> {
    if ((await this.#opened.records.read(keyId)).state === 'destroyed') throw new KmsError('KEY_DESTROYED');
    if (master !== undefined) await this.addSlot(master, 'master', true, actor);
    const record = await this.#rewrapping.move(keyId);
    if (record.state === 'destroyed') throw new KmsError('KEY_DESTROYED');
    return record;
  }

  /**
   * After a start, or by command: its master key has proved itself, and takes the place of those that it succeeds. Crash story: until the
   * keyring without them is durable they open the store; the keyrings that were kept for them go afterwards, or, after a crash
   * between the two, at the next start, since none is needed while no successor waits.
   */
  async confirmSlots(actor: string): Promise<void> {
    const { keyring, sharing } = this.#opened;
    for (const { slotId } of keyring.slotsToGo) await sharing?.refuseUsed(slotId);
    const { confirmed, succeeded, expired } = await keyring.confirmSlots();
    if (!keyring.slots.some((slot) => slot.state === 'successor')) await this.#store.backups.dropKeyrings();
    if (confirmed !== undefined) await this.#tellSlot(actor, 'confirmed', confirmed);
    for (const slot of succeeded) await this.#tellSlot(actor, 'removed', slot);
    for (const slot of expired) await this.#tellSlot(actor, 'expired', slot);
  }
}
