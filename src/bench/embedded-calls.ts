import type { KeyObject } from 'node:crypto';
import type { EmbeddedKms } from '../create.js';
import { CIPHERTEXT_OVERHEAD } from '../limits.js';
import type { Messages } from './messages.js';
import { open, seal } from './plain-crypto.js';
import type { Call } from './questions.js';
import type { MessageOperation } from './sealer.js';

/** What calls need. */
export interface Ground {
  kms: EmbeddedKms;
  messages: Messages;
  /** node:crypto's keys, as many as ours. */
  plain: readonly KeyObject[];
}

/** So many operations, one after another. The last answer is looked at, so that nothing is left out as unused. */
export type Run = (count: number) => void | Promise<void>;

type Made = (ground: Ground) => Run;

/** Each has a loop of its own: in one loop for all, the calls of all would be in each other's way, and the fastest would pay. */
const ENCRYPT: Partial<Record<Call, Made>> = {
  encryptSync: ({ kms, messages }) => {
    const { keyIds, plaintext, aad } = messages;
    return (count) => {
      for (let i = 0; i < count; i++) {
        const key = messages.random(keyIds.length);
        messages.take(key, kms.encryptSync(keyIds[key] as string, plaintext, aad), CIPHERTEXT_OVERHEAD);
      }
    };
  },
  encryptInto: ({ kms, messages }) => {
    const { keyIds, plaintext, aad } = messages;
    const out = Buffer.alloc(plaintext.length + CIPHERTEXT_OVERHEAD);
    return (count) => {
      for (let i = 0; i < count; i++) {
        const key = messages.random(keyIds.length);
        kms.encryptInto(keyIds[key] as string, plaintext, aad, out);
        messages.take(key, out, CIPHERTEXT_OVERHEAD);
      }
    };
  },
  encryptWithDek: ({ kms, messages }) => {
    const { keyIds, plaintext, aad } = messages;
    return async (count) => {
      for (let i = 0; i < count; i++) {
        const key = messages.random(keyIds.length);
        const { ciphertext } = await kms.encryptWithDek(keyIds[key] as string, plaintext, aad);
        messages.take(key, ciphertext, CIPHERTEXT_OVERHEAD);
      }
    };
  },
};

const DECRYPT: Partial<Record<Call, Made>> = {
  decryptSync: ({ kms, messages }) => {
    const { keyIds, sealed, aad } = messages;
    return (count) => {
      for (let i = 0; i < count; i++) {
        const { key, ciphertext } = sealed[messages.random(sealed.length)]!;
        messages.take(key, kms.decryptSync(keyIds[key] as string, ciphertext, aad), 0);
      }
    };
  },
  decryptInto: ({ kms, messages }) => {
    const { keyIds, sealed, aad, plaintext } = messages;
    const out = Buffer.alloc(plaintext.length);
    return (count) => {
      for (let i = 0; i < count; i++) {
        const { key, ciphertext } = sealed[messages.random(sealed.length)]!;
        kms.decryptInto(keyIds[key] as string, ciphertext, aad, out);
        messages.take(key, out, 0);
      }
    };
  },
  decryptWithDek: ({ kms, messages }) => {
    const { keyIds, sealed, aad } = messages;
    return async (count) => {
      for (let i = 0; i < count; i++) {
        const { key, ciphertext } = sealed[messages.random(sealed.length)]!;
        messages.take(key, await kms.decryptWithDek(keyIds[key] as string, ciphertext, aad), 0);
      }
    };
  },
};

function plainEncrypt({ plain, messages }: Ground): Run {
  const { plaintext, aad } = messages;
  return (count) => {
    for (let i = 0; i < count; i++) {
      const key = messages.random(plain.length);
      messages.take(key, seal(plain[key] as KeyObject, plaintext, aad), CIPHERTEXT_OVERHEAD);
    }
  };
}

function plainDecrypt({ plain, messages }: Ground): Run {
  const { sealed, aad } = messages;
  return (count) => {
    for (let i = 0; i < count; i++) {
      const { key, ciphertext } = sealed[messages.random(sealed.length)]!;
      messages.take(key, open(plain[key] as KeyObject, ciphertext, aad), 0);
    }
  };
}

/** Whose promise is awaited need not be told apart: its loop is that of its own call. */
export function runOf(operation: MessageOperation, call: Call, ground: Ground): Run {
  if (call === 'node:crypto') return operation === 'encrypt' ? plainEncrypt(ground) : plainDecrypt(ground);
  const made = (operation === 'encrypt' ? ENCRYPT : DECRYPT)[call];
  if (made === undefined) throw new Error(`${call} does not ${operation}`);
  return made(ground);
}
