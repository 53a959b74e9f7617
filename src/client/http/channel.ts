import { randomBytes } from 'node:crypto';
import http from 'node:http';
import { KmsError } from '../../errors.js';
import { MAX_HTTP_BODY_BYTES } from '../../limits.js';
import type { CallOptions } from '../../provider.js';
import { AbortWatch } from '../abort-watch.js';
import { hostHeaderOf } from '../address.js';
import type { Journal } from '../journal.js';
import { aborted, closed, refusalOf } from '../refusals.js';
import type { Server } from '../server.js';
import { TrustingAgent } from './agent.js';
import { Exchange, type Reply } from './exchange.js';

export interface ChannelOptions extends Server {
  prefix: string;
  /** The whole header, a secret. */
  authorization: string | undefined;
  /** Of the database that all requests are in: a secret, too. */
  databaseSecret?: string | undefined;
  /** For calls that name none. */
  deadlineMs: number;
  maxSockets: number;
  maxInFlight: number;
  /** What the bodies of requests under way may hold. */
  maxQueuedBytes: number;
  journal: Journal | undefined;
}

export interface Question {
  /** What the log calls it. */
  operation: string;
  method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  route: string;
  body?: Buffer;
}

/**
 * Requests to one server over HTTP/1.1. A failure of the connection is STORE_UNAVAILABLE, and nothing is sent a second time:
 * nobody can tell whether it was done.
 */
export class Channel {
  private readonly agent: TrustingAgent;
  private readonly headers: http.OutgoingHttpHeaders;
  private readonly underWay = new Map<Exchange, { bytes: number; signal: AbortSignal | undefined }>();
  private readonly aborts = new AbortWatch<Exchange>((exchange, signal) => exchange.fail(aborted(signal)));
  /** So that the ids of two clients differ in the server's log. */
  private readonly name = randomBytes(6).toString('hex');
  private requests = 0;
  private bytes = 0;
  private isClosed = false;

  constructor(private readonly options: ChannelOptions) {
    const { authorization, databaseSecret, place } = options;
    this.agent = new TrustingAgent(options, options.maxSockets);
    this.headers = {
      host: hostHeaderOf(place),
      ...(authorization === undefined ? {} : { authorization }),
      ...(databaseSecret === undefined ? {} : { KmsDatabaseSecret: databaseSecret }),
    };
  }

  /** Resolves to what `read` makes of the reply, whatever its status. */
  ask<T>(question: Question, options: CallOptions | undefined, read: (reply: Reply) => T): Promise<T> {
    const id = `${this.name}-${++this.requests}`;
    const exchange = async () => read(await this.send(id, question, options ?? {}));
    const { journal } = this.options;
    if (journal === undefined) return exchange();
    return journal.follow(id, question.operation, question.body?.length ?? 0, exchange);
  }

  /** Rejects what is under way. Every later call is refused. */
  close(): void {
    this.isClosed = true;
    for (const exchange of this.underWay.keys()) exchange.fail(closed());
    this.agent.destroy();
  }

  private send(id: string, question: Question, { deadlineMs = this.options.deadlineMs, signal }: CallOptions): Promise<Reply> {
    const { method, route, body } = question;
    const bytes = body?.length ?? 0;
    this.admit(bytes);
    const refusal = refusalOf(deadlineMs, signal);
    if (refusal !== undefined) throw refusal;
    const about = body === undefined ? {} : { 'content-type': 'application/json', 'content-length': bytes };
    const request = http.request({
      agent: this.agent,
      method,
      path: `${this.options.prefix}${route}`,
      headers: { ...this.headers, 'x-request-id': id, ...about },
    });
    const exchange = new Exchange(request, this.agent, (settled) => this.forget(settled));
    this.underWay.set(exchange, { bytes, signal });
    this.bytes += bytes;
    if (signal !== undefined) this.aborts.add(signal, exchange);
    exchange.start(body, deadlineMs);
    return exchange.reply;
  }

  private admit(bytes: number): void {
    if (this.isClosed) throw closed();
    if (bytes > MAX_HTTP_BODY_BYTES) throw new KmsError('TOO_LARGE', `a request of ${bytes} bytes`);
    const { maxInFlight, maxQueuedBytes } = this.options;
    if (this.underWay.size >= maxInFlight) throw new KmsError('BUSY', `${maxInFlight} requests are under way`);
    if (this.bytes > 0 && this.bytes + bytes > maxQueuedBytes) {
      throw new KmsError('BUSY', `${this.bytes} bytes wait to be answered`);
    }
  }

  private forget(exchange: Exchange): void {
    const known = this.underWay.get(exchange);
    if (known === undefined) return;
    this.underWay.delete(exchange);
    this.bytes -= known.bytes;
    if (known.signal !== undefined) this.aborts.remove(known.signal, exchange);
  }
}
