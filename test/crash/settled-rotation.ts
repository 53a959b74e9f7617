import { setImmediate as turn } from 'node:timers/promises';
import type { Provider } from '../../dist/provider.js';

/** Waits for the end of a rotation that is under way, and throws unless every key is wrapped by the active KEK then. */
export async function settledRotation(kms: Provider): Promise<void> {
  let status = await kms.rotationStatus();
  while (status.state === 'running') {
    await turn();
    status = await kms.rotationStatus();
  }
  if (status.state !== 'idle')
    throw new Error(`the rotation is ${status.state}: ${status.error ?? JSON.stringify(status.blockedBy)}`);
  for (let cursor: string | undefined; ; ) {
    const { keys, next } = await kms.listKeys({ limit: 1_000, ...(cursor !== undefined && { cursor }) });
    const behind = keys.filter(({ state, kekId }) => state !== 'destroyed' && kekId !== status.kekId);
    if (behind.length > 0) throw new Error(`${behind.map(({ keyId }) => keyId).join(', ')} still under an older KEK`);
    if (next === null) return;
    cursor = next;
  }
}
