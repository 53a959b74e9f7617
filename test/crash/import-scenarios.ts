import { createCipheriv, randomBytes } from 'node:crypto';
import { importKeys } from '../../dist/import/import-keys.js';
import type { Scenario } from './laboratory.js';
import { served, withKeys } from './scenarios.js';

const KEYS = 3;

function sealed(key: Buffer, plaintext: Buffer): Buffer {
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  return Buffer.concat([nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

/** A key as the original makes it under a master key, and a message that it sealed. */
function original(master: Buffer) {
  const dek = randomBytes(32);
  const message = randomBytes(16);
  const keyId = `k_${randomBytes(8).toString('hex')}`;
  const key = { keyId, threadId: '', wrapped: sealed(master, dek), createdAt: new Date().toISOString() };
  return { key, message, ciphertext: sealed(dek, message) };
}

export const IMPORT_SCENARIOS: ReadonlyArray<Scenario<string[]>> = [
  {
    name: 'an import, and the same once more',
    before: withKeys(1),
    during: async (bench) => {
      const master = randomBytes(32);
      const keys = Array.from({ length: KEYS }, () => original(master));
      async function* findings() {
        for (const { key } of keys) yield { where: key.keyId, key };
      }
      await served(bench, async ({ kms, ledger }) => {
        for (let count = 0; count < KEYS; count += 1) ledger.began();
        for (let times = 0; times < 2; times += 1) {
          const importing = kms.importing({ kind: 'bytes', bytes: Buffer.from(master) });
          await importKeys(findings(), importing, { actor: 'uid:0', source: 'test' }).finally(() => importing.close());
          if (times === 0) for (const { key } of keys) ledger.created(key.keyId);
        }
        for (const { key, message, ciphertext } of keys) ledger.sealed(key.keyId, { message, ciphertext });
      });
    },
  },
];
