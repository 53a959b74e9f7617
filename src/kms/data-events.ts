import { asKmsError, type ErrorCode, KmsError } from '../errors.js';
import { type Actor, NEEDS_AUDIT, type Vault, type Wanting } from '../vault.js';

/** Refusals that say nothing of a key: who may not ask, or comes at a bad time, has not used one. */
const NO_USE: ReadonlySet<ErrorCode> = new Set([
  'UNAUTHENTICATED',
  'PERMISSION_DENIED',
  'INVALID_ARGUMENT',
  'SEALED',
  'BUSY',
  'AUDIT_UNAVAILABLE',
]);

function isUse(code: ErrorCode): boolean {
  return !NO_USE.has(code);
}

/** One message, as far as the audit log names it. */
export interface Told {
  encrypts: boolean;
  keyId: string;
  bytes: number;
  actor: Actor;
}

/** How often room is made for one event: all of it may be gone again before it has its turn. */
const MOST_ROUNDS = 64;

function tooMany(): KmsError {
  return new KmsError('BUSY', 'audit events are not written as fast as they come');
}

/** What the audit log has to be told of messages that the native core did not come to work on, and room for what it did. */
export class DataEvents {
  readonly #vault: Vault;
  readonly #written: () => Promise<void>;

  /** `written` takes all events that wait before it returns, and resolves when they are durable. */
  constructor(vault: Vault, written: () => Promise<void>) {
    this.#vault = vault;
    this.#written = written;
  }

  /** Resolves when there is room for events. AUDIT_UNAVAILABLE if those that wait cannot be written. */
  makeRoom(): Promise<void> {
    return this.#written();
  }

  /** There is room when it returns, unless nothing can be written: then the next call says so. */
  makeRoomNow(): void {
    this.#written().catch(() => undefined);
  }

  /** Tells that the message failed of `error`, which it returns. Throws AUDIT_UNAVAILABLE or SEALED if it cannot be told. */
  failed(message: Told, error: unknown): Promise<KmsError> {
    return this.#told(asKmsError(error), (known) => this.#tell(message, known));
  }

  /** The same for the body of a frame of ops 2 to 5. */
  failedFrame(actor: number, body: Uint8Array, error: unknown): Promise<KmsError> {
    return this.#told(asKmsError(error), ({ code }) => this.#vault.tellFrame(actor, body, code));
  }

  failedNow(message: Told, error: unknown): KmsError {
    const known = asKmsError(error);
    if (!isUse(known.code) || this.#tell(message, known) !== NEEDS_AUDIT) return known;
    this.makeRoomNow();
    if (this.#tell(message, known) === NEEDS_AUDIT) throw tooMany();
    return known;
  }

  #tell({ encrypts, keyId, bytes, actor }: Told, { code }: KmsError): 0 | Wanting {
    return this.#vault.tell(encrypts, keyId, code, bytes, actor);
  }

  async #told(error: KmsError, tell: (error: KmsError) => 0 | Wanting): Promise<KmsError> {
    if (!isUse(error.code)) return error;
    for (let round = 0; tell(error) === NEEDS_AUDIT; round += 1) {
      if (round === MOST_ROUNDS) throw tooMany();
      await this.makeRoom();
    }
    return error;
  }
}
