/**
 * Whose signal was aborted. One listener per signal, however many requests share it: Node warns of a leak beyond ten, and
 * a listener that outlived its request would be one.
 */
export class AbortWatch<Request> {
  private readonly watched = new Map<AbortSignal, { requests: Set<Request>; listener: () => void }>();

  constructor(private readonly onAbort: (request: Request, signal: AbortSignal) => void) {}

  add(signal: AbortSignal, request: Request): void {
    const known = this.watched.get(signal);
    if (known !== undefined) {
      known.requests.add(request);
      return;
    }
    const requests = new Set([request]);
    const listener = () => {
      this.watched.delete(signal);
      for (const each of requests) this.onAbort(each, signal);
    };
    this.watched.set(signal, { requests, listener });
    signal.addEventListener('abort', listener, { once: true });
  }

  remove(signal: AbortSignal, request: Request): void {
    const known = this.watched.get(signal);
    if (known === undefined) return;
    known.requests.delete(request);
    if (known.requests.size > 0) return;
    this.watched.delete(signal);
    signal.removeEventListener('abort', known.listener);
  }
}
