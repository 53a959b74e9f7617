import type http from 'node:http';
import { KmsError } from '../../errors.js';
import { MAX_HTTP_ANSWER_BYTES, MAX_TIMER_MS } from '../../limits.js';
import type { TrustingAgent } from './agent.js';

export interface Reply {
  status: number;
  body: Buffer;
}

/** One request and its answer, from the first byte to the last: settled once, whatever else happens to its connection. */
export class Exchange {
  readonly reply: Promise<Reply>;
  private resolve!: (reply: Reply) => void;
  private reject!: (error: KmsError) => void;
  private readonly chunks: Buffer[] = [];
  private received = 0;
  private timer: NodeJS.Timeout | undefined;
  private isSettled = false;

  constructor(
    private readonly request: http.ClientRequest,
    private readonly agent: TrustingAgent,
    private readonly onSettled: (exchange: Exchange) => void,
  ) {
    this.reply = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    request.on('response', (response) => this.take(response));
    // Stays: what a request that was given up still meets is nobody's concern, and would end the process.
    request.on('error', (error) => this.broken(error));
    request.on('close', () => this.broken());
  }

  start(body: Buffer | undefined, deadlineMs: number): void {
    if (deadlineMs <= MAX_TIMER_MS) this.timer = setTimeout(() => this.fail(new KmsError('DEADLINE_EXCEEDED')), deadlineMs);
    this.request.end(body);
  }

  /** The connection goes with it: the rest of the answer may be on its way. */
  fail(error: KmsError): void {
    if (this.isSettled) return;
    this.settle();
    this.request.destroy();
    this.reject(error);
  }

  private settle(): void {
    this.isSettled = true;
    clearTimeout(this.timer);
    this.onSettled(this);
  }

  private broken(error?: Error): void {
    this.fail(this.agent.failureOf(this.request.socket, error));
  }

  private take(response: http.IncomingMessage): void {
    response.on('data', (chunk: Buffer) => {
      this.received += chunk.length;
      if (this.received <= MAX_HTTP_ANSWER_BYTES) this.chunks.push(chunk);
      else this.fail(new KmsError('INTERNAL', `the key service answered with more than ${MAX_HTTP_ANSWER_BYTES} bytes`));
    });
    response.on('error', (error) => this.broken(error));
    response.on('end', () => this.finish(response.statusCode ?? 0));
  }

  private finish(status: number): void {
    if (this.isSettled) return;
    this.settle();
    // Answered before it was read: the connection would wait for a server that wants no more of it.
    if (!this.request.writableFinished) this.request.destroy();
    this.resolve({ status, body: Buffer.concat(this.chunks) });
  }
}
