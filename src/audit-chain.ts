import { binding, type Chain, type ChainHead, type Handle, type Space } from './native.js';

/** The lines of one epoch of an audit log; its key is made and replaced natively. After its or the vault's close: SEALED. */
export class AuditChain {
  readonly #chain: Chain;

  /** By `Vault.openChain`. */
  constructor(chain: Chain) {
    this.#chain = chain;
  }

  /**
   * The next line with its line feed. `members`: the JSON of the event from `type` on, as `JSON.stringify` gives it, without its
   * braces. Signed with `signing`, an Ed25519 key, if given. Throws TOO_LARGE above 8,192 bytes; then there is no line.
   */
  line(members: string, signing: Handle = 0): Uint8Array {
    return binding.chainLine(this.#chain, members, signing);
  }

  /** A line for each of these, in one piece. Those before one that cannot be, which the next call is told of. */
  lines(members: readonly string[]): Uint8Array {
    return binding.chainLines(this.#chain, members);
  }

  /** The epoch key sealed to an auditor's X25519 public key; CONFLICT once there is a line. */
  sealEpochKey(auditorPublic: Uint8Array): Uint8Array {
    return binding.sealEpochKey(this.#chain, auditorPublic);
  }

  /**
   * The next lines, about what data operations did since the last time: of groups and then of single events what fits into `most`
   * bytes. Empty when there is nothing more to tell. To be taken a last time before the vault is closed. Those of another space
   * than the chain's own are taken by its name.
   */
  takeData(most: number, space: Space = 0): Uint8Array {
    return binding.takeData(this.#chain, most, space);
  }

  head(): ChainHead {
    return binding.chainHead(this.#chain);
  }

  /** Wipes the epoch key. */
  close(): void {
    binding.closeChain(this.#chain);
  }
}
