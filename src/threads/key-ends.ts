import { KmsError } from '../errors.js';
import type { Provider } from '../provider.js';

/** What is gone needs no end: whoever was interrupted does it again. */
function unlessGone(error: unknown): void {
  const isGone = error instanceof KmsError && (error.code === 'KEY_DESTROYED' || error.code === 'KEY_NOT_FOUND');
  if (!isGone) throw error;
}

export async function disableKey(kms: Provider, keyId: string): Promise<void> {
  await kms.disableKey(keyId).catch(unlessGone);
}

/** One that is destroyed stays so. */
export async function enableKey(kms: Provider, keyId: string): Promise<void> {
  await kms.enableKey(keyId).catch(unlessGone);
}

/** Whether it serves or is disabled. */
export async function destroyKey(kms: Provider, keyId: string): Promise<void> {
  await disableKey(kms, keyId);
  await kms.destroyKey(keyId).catch(unlessGone);
}
