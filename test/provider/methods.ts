import { randomBytes } from 'node:crypto';
import type { CallOptions, Provider, SlotKeeper } from '../../dist/provider.js';

/** What the calls below work on. */
export interface Made {
  keyId: string;
  ciphertext: Uint8Array;
  sealed: Uint8Array;
}

export const PLAIN = Uint8Array.from([1, 2, 3, 4, 5]);
export const UNKNOWN_KEY = `k_${'0'.repeat(32)}`;

export async function make(provider: Provider): Promise<Made> {
  const { keyId } = await provider.createDekForThread('thread/1');
  const { ciphertext } = await provider.encryptWithDek(keyId, PLAIN);
  return { keyId, ciphertext, sealed: await provider.encrypt(PLAIN) };
}

type Call = (provider: Provider & SlotKeeper, made: Made, options?: CallOptions) => Promise<unknown>;

/** Calls that use a key by its id to encrypt or decrypt. */
export const MESSAGE_CALLS: ReadonlyArray<[name: string, call: Call]> = [
  ['encryptWithDek', (p, m, o) => p.encryptWithDek(m.keyId, PLAIN, undefined, o)],
  ['decryptWithDek', (p, m, o) => p.decryptWithDek(m.keyId, m.ciphertext, undefined, o)],
  ['encryptMany', (p, m, o) => p.encryptMany(m.keyId, [PLAIN], undefined, o)],
  ['decryptMany', (p, m, o) => p.decryptMany(m.keyId, [m.ciphertext], undefined, o)],
];

/** Calls that name a key and do not use it. */
export const RECORD_CALLS: ReadonlyArray<[name: string, call: Call]> = [
  ['getWrapped', (p, m, o) => p.getWrapped(m.keyId, o)],
  ['describeKey', (p, m, o) => p.describeKey(m.keyId, o)],
  ['disableKey', (p, m, o) => p.disableKey(m.keyId, o)],
  ['enableKey', (p, m, o) => p.enableKey(m.keyId, o)],
  ['destroyKey', (p, m, o) => p.destroyKey(m.keyId, o)],
];

/** Calls that name no key. */
export const OTHER_CALLS: ReadonlyArray<[name: string, call: Call]> = [
  ['createDekForThread', (p, _m, o) => p.createDekForThread('thread/2', o)],
  ['createDek', (p, _m, o) => p.createDek(undefined, o)],
  ['encrypt', (p, _m, o) => p.encrypt(PLAIN, undefined, o)],
  ['decrypt', (p, m, o) => p.decrypt(m.sealed, undefined, o)],
  ['listKeys', (p, _m, o) => p.listKeys({}, o)],
];

export const HEALTH_CALL: [name: string, call: Call] = ['health', (p, _m, o) => p.health(o)];

/** Calls about what keys are wrapped under, and what opens the store. */
export const ROTATION_CALLS: ReadonlyArray<[name: string, call: Call]> = [
  ['rewrapDek', (p, m, o) => p.rewrapDek(m.keyId, o)],
  ['rotateKek', (p, _m, o) => p.rotateKek(o)],
  ['rotationStatus', (p, _m, o) => p.rotationStatus(o)],
  ['slots', (p, _m, o) => p.slots(o)],
  ['addSlot', (p, _m, o) => p.addSlot({ keyHex: '1'.repeat(64) }, o)],
  ['confirmSlot', (p, _m, o) => p.confirmSlot(o)],
  ['removeSlot', (p, _m, o) => p.removeSlot(`s_${'0'.repeat(32)}`, o)],
];

/** Everything that works on an open store. */
export const WORKING_CALLS = [...MESSAGE_CALLS, ...RECORD_CALLS, ...OTHER_CALLS];

export function bytes(length: number): Uint8Array {
  return new Uint8Array(randomBytes(length));
}

export function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
