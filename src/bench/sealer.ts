import type { CreatedKey, Provider } from '../provider.js';

/** What is measured: a key service, or what stands in for one. */
export interface Sealer extends Pick<Provider, 'encryptWithDek' | 'decryptWithDek'> {
  close(): Promise<void>;
}

/** One that makes keys, too. */
export interface KeyMaker {
  createDek(label?: string): Promise<Pick<CreatedKey, 'keyId'>>;
}

export type MessageOperation = 'encrypt' | 'decrypt';
