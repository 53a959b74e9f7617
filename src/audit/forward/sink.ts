/** An open way to a receiver. */
export interface Sink {
  /**
   * Hands lines over, without line feeds, in order; resolves with how many are out, one at least. Rejects if none is, and then the
   * sink is of no use any more.
   */
  send(lines: readonly Buffer[]): Promise<number>;
  /** Ends at once; a `send` under way rejects. */
  close(): void;
}

/** The receiver does not want these lines and will not want them later: to try again would hold up all that follow. */
export class Refused extends Error {
  override name = 'Refused';
}
