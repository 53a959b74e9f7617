import type { ExecutionContext } from 'ava';
import type { AuditChain } from '../../dist/audit-chain.js';
import { Vault } from '../../dist/vault.js';

export const STORE = '00112233445566778899aabbccddeeff';
export const BOOT = '0123456789abcdef';
/** Before the first line of all. */
export const NONE = { seq: 0, prev: new Uint8Array(32) };

export function vaultFor(t: ExecutionContext, cachedKeys = 64): Vault {
  const vault = Vault.open({ arenaBytes: 1 << 20, keptContexts: 64 }, cachedKeys);
  t.teardown(() => vault.close());
  return vault;
}

export function chainFor(t: ExecutionContext, vault: Vault, head = NONE): AuditChain {
  const chain = vault.openChain(STORE, BOOT, head);
  t.teardown(() => chain.close());
  return chain;
}
