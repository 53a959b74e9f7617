import type { Provider } from '../../dist/provider.js';
import type { ThreadStore } from '../../dist/threads/thread-store.js';
import { put } from './threads-ground.js';

/** Beyond what a double keeps. */
export const FIRST_TS = 1_712_345_678_901_234_567n;

/** Writes threads and messages as the Go server does, text by text. */
export class OriginalServer {
  readonly #kms: Provider;
  readonly #store: ThreadStore;
  readonly threadId: string;
  keyId = '';
  #ts = FIRST_TS;
  #seq = 0;

  constructor(kms: Provider, store: ThreadStore, threadId: string) {
    this.#kms = kms;
    this.#store = store;
    this.threadId = threadId;
  }

  /** With a key, and with members of the meta that we know nothing of. */
  async createThread(): Promise<void> {
    const { keyId, wrapped, kekId, kekVersion } = await this.#kms.createDekForThread(this.threadId);
    this.keyId = keyId;
    const kms = JSON.stringify({
      key_id: keyId,
      wrapped_dek: Buffer.from(wrapped).toString('base64'),
      kek_id: kekId,
      kek_version: kekVersion,
    });
    await put(this.#store, {
      [`thread:${this.threadId}:meta`]: `{"id":"${this.threadId}","title":"Old","author":"ann","slug":"old","created_ts":${FIRST_TS},"updated_ts":${FIRST_TS + 1n},"attributes":{"n":12345678901234567890.50},"kms":${kms}}`,
    });
  }

  /** `text` as its JSON stands, encrypted as the original does: no AAD, no name of the key. */
  async envelope(text: string): Promise<string> {
    const { ciphertext } = await this.#kms.encryptWithDek(this.keyId, Buffer.from(text, 'utf8'));
    return `{"_enc":"gcm","v":"${Buffer.from(ciphertext).toString('base64')}"}`;
  }

  /**
   * A message, its body as its JSON stands, and the copy in the index of versions. What it is about the body, in its text. An edit,
   * a reaction or a deletion is the same under an id that is there: at a later place.
   */
  async append(
    body: string,
    more = '"reply_to":"msg-0","reactions":{"bob":"+1"},"weight":1.0e+02',
    known?: string,
  ): Promise<{ id: string; key: string; text: string }> {
    // The id is made before the place is known.
    const id = known ?? `msg-${this.#ts}-${this.#seq}`;
    this.#ts += 1n;
    this.#seq += 1;
    const place = `${String(this.#ts).padStart(20, '0')}-${String(this.#seq).padStart(6, '0')}`;
    const key = `thread:${this.threadId}:msg:${place}`;
    const text = `{"id":"${id}","thread":"${this.threadId}","author":"ann","ts":${this.#ts},"body":${body},${more}}`;
    await put(this.#store, { [key]: text, [`version:msg:${id}:${place}`]: text });
    return { id, key, text };
  }
}

/** The text of a message without what a migration may touch: its body and the marks of how it is sealed. */
export function besideBody(text: string): string {
  return text
    .replace(/"body":.*?(?=,"reply_to")/, '"body":…')
    .replace(/,"edited_ts":"\d+"(?=\}$)/, '')
    .replace(/,"enc":\{.*\}(?=\}$)/, '');
}
