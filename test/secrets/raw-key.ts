import type { EmbeddedKms } from '../../dist/create.js';

/**
 * Imports a raw data key that is told with its bytes turned over, and takes it out again. All that is left of it afterwards is
 * what the service keeps: both of the caller's copies lie outside V8's heap, which leaves behind what it moves, and are wiped.
 */
export async function passRawKey(kms: EmbeddedKms, turned: readonly number[]): Promise<string> {
  const given = new Uint8Array(new ArrayBuffer(turned.length));
  for (const [at, byte] of turned.entries()) given[at] = 255 - byte;
  const { keyId, wrapped } = await kms.wrapDek(given);
  const raw = await kms.unwrapDek(wrapped);
  const isSame = raw.every((byte, at) => byte === 255 - turned[at]!);
  raw.fill(0);
  if (!isSame) throw new Error('another key came back');
  return keyId;
}
