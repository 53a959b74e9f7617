import { createServer, type IncomingHttpHeaders, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { KmsError } from '../../errors.js';
import {
  HTTP_IDLE_TIMEOUT_MS,
  MAX_HTTP_HEADER_BYTES,
  MAX_HTTP_IN_FLIGHT,
  REFUSAL_DISTANCE_MS,
  SWEEP_INTERVAL_MS,
} from '../../limits.js';
import type { Account } from '../accounts.js';
import { ANONYMOUS, type Identity } from '../identity.js';
import type { Service } from '../operations.js';
import type { Source } from '../source.js';
import { sendError } from './answers.js';
import { follow } from './followed.js';
import { answer } from './requests.js';

/** What only a browser sends, and sends with every request that a page can make it send. */
function isOfBrowser(header: string): boolean {
  return header === 'origin' || header.startsWith('sec-fetch-');
}

const REQUEST_TIMEOUT = 'ERR_HTTP_REQUEST_TIMEOUT';
/** Answers to what is no HTTP at all, by the parser's error; everything else is 400. */
const PARSER_STATUS: Record<string, string> = {
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
  [REQUEST_TIMEOUT]: '408 Request Timeout',
};

/** What the kernel has not taken of the write under way: one large answer counts as waiting until its last byte otherwise. */
function queuedOf(socket: Socket): number {
  const { _handle: handle } = socket as unknown as { _handle: { writeQueueSize?: number } | null };
  return handle?.writeQueueSize ?? 0;
}

/** What the connection tells of itself. */
export interface HttpConnectionEvents {
  /** It was nobody's, and came with a token. */
  onKnown(connection: HttpConnection): void;
  onClose(connection: HttpConnection): void;
}

/** One connection that speaks HTTP/1.1. */
export class HttpConnection {
  readonly surface = 'http';
  /** Answers under way. */
  private readonly open = new Set<ServerResponse>();
  private finishing = false;
  /** Sweeps in which the peer took nothing of what waits for it. */
  private stalledSweeps = 0;
  private waitingBytes = 0;
  /** A request came with a token that was valid. */
  private wasKnown = false;
  /** Whose connection it is: of the identity that it came as, or of the first one that nobody turned out to be. */
  private account: Account;
  private refusedUntil = 0;

  constructor(
    readonly socket: Socket,
    readonly identity: Identity,
    /** What may stand in `Host`; undefined where no name leads there. */
    readonly hosts: ReadonlySet<string> | undefined,
    /** Whether the peer is still who it was when it came. */
    readonly isCurrent: () => boolean,
    private readonly service: Service,
    private readonly events: HttpConnectionEvents,
  ) {
    this.account = service.accounts.of(identity);
    this.account.connections++;
    socket.on('close', () => {
      this.account.connections--;
      // Node says so only to the answer whose turn it was: those behind it would keep what they have taken.
      for (const response of this.open) if (response.socket === null) response.emit('close');
      events.onClose(this);
    });
  }

  get isKnown(): boolean {
    return this.wasKnown || this.identity !== ANONYMOUS;
  }

  /** Under way. */
  get requests(): number {
    return this.open.size;
  }

  /**
   * Who a request is from; a promise only for a JWT that is not remembered. Throws, or rejects, as `Authentication.ofToken`, and
   * with BUSY if that one has too many connections.
   */
  identify({ authorization }: IncomingHttpHeaders): Identity | Promise<Identity> {
    if (authorization === undefined) return this.identity;
    const named = this.service.authentication.ofHeader(authorization, this);
    if (named instanceof Promise) return named.then((identity) => this.known(identity));
    return this.known(named);
  }

  private known(identity: Identity): Identity {
    // It may have closed while its token was verified: it is counted nowhere then.
    if (!this.isKnown && !this.socket.destroyed) this.becomeKnown(identity);
    return identity;
  }

  private becomeKnown(identity: Identity): void {
    const account = this.service.accounts.of(identity);
    account.join();
    this.account.connections--;
    this.account = account;
    this.wasKnown = true;
    this.events.onKnown(this);
  }

  get payer(): Account {
    return this.account;
  }

  /** Milliseconds until a refusal for the rate may be sent here. */
  refusalDelay(): number {
    const now = performance.now();
    this.refusedUntil = Math.max(now, this.refusedUntil) + REFUSAL_DISTANCE_MS;
    return this.refusedUntil - now;
  }

  /** False if so many are under way that this one is refused. */
  begin(response: ServerResponse): boolean {
    if (this.open.size >= MAX_HTTP_IN_FLIGHT) return false;
    this.open.add(response);
    if (this.finishing) response.shouldKeepAlive = false;
    response.on('close', () => {
      this.open.delete(response);
      this.endIfDone();
    });
    return true;
  }

  /** Answers what is under way, then closes. */
  finish(): void {
    this.finishing = true;
    this.endIfDone();
  }

  destroy(): void {
    this.socket.destroy();
  }

  /** Called every SWEEP_INTERVAL_MS. */
  sweep(): void {
    const waiting = this.socket.writableLength + queuedOf(this.socket);
    const isStalled = waiting > 0 && waiting === this.waitingBytes;
    this.stalledSweeps = isStalled ? this.stalledSweeps + 1 : 0;
    this.waitingBytes = waiting;
    if (this.stalledSweeps * SWEEP_INTERVAL_MS > this.service.timeouts.writeStallMs) this.socket.destroy();
  }

  private endIfDone(): void {
    if (this.finishing && this.open.size === 0) this.socket.end(() => this.socket.destroy());
  }
}

/** HTTP/JSON on the connections that the listener hands over: the binary protocol's operations under their HTTP names. */
export class HttpSurface {
  private readonly server: Server;
  private readonly connections = new WeakMap<Socket, HttpConnection>();

  constructor(private readonly service: Service) {
    this.server = createServer({
      maxHeaderSize: MAX_HTTP_HEADER_BYTES,
      keepAliveTimeout: HTTP_IDLE_TIMEOUT_MS,
      headersTimeout: service.timeouts.frameMs,
      requestTimeout: service.timeouts.frameMs,
      connectionsCheckingInterval: SWEEP_INTERVAL_MS,
    });
    // Not a number: beyond it Node drops header lines in silence, and an `Authorization` or `Origin` may be among them.
    this.server.maxHeadersCount = 0;
    const onRequest = (request: IncomingMessage, response: ServerResponse) => this.onRequest(request, response);
    this.server.on('request', onRequest);
    // Whoever waits to be asked for its body gets its refusal before it sends any.
    this.server.on('checkContinue', onRequest);
    this.server.on('clientError', (error, socket) => this.onClientError(error, socket as Socket));
    // The server never listens itself; this starts its watch over headers and bodies that do not come.
    this.server.emit('listening');
  }

  /** Owns the source once it returns; throws before that if the descriptor cannot be used. */
  take(
    source: Source,
    identity: Identity,
    hosts: ReadonlySet<string> | undefined,
    isCurrent: () => boolean,
    events: HttpConnectionEvents,
  ): HttpConnection {
    const socket = 'fd' in source ? new Socket({ fd: source.fd, readable: true, writable: true }) : source.socket;
    const connection = new HttpConnection(socket, identity, hosts, isCurrent, this.service, events);
    this.connections.set(socket, connection);
    this.server.emit('connection', socket);
    if ('socket' in source) {
      // With a listener of ours Node reads through the stream, and not past what was put back into it.
      socket.on('data', () => {});
      socket.resume();
    }
    return connection;
  }

  close(): void {
    this.server.close();
  }

  private onRequest(request: IncomingMessage, response: ServerResponse): void {
    const connection = this.connections.get(request.socket);
    if (connection === undefined) {
      request.socket.destroy();
      return;
    }
    if (!connection.begin(response)) {
      const busy = new KmsError('BUSY');
      const followed = follow(request, connection.identity.actor);
      this.service.watch.note(followed, busy.code);
      sendError(response, 429, followed.requestId, busy);
      return;
    }
    const context = {
      service: this.service,
      actor: connection.identity.actor,
      identify: ({ headers }: IncomingMessage) => connection.identify(headers),
      account: () => connection.payer,
      refusalDelay: () => connection.refusalDelay(),
      isCurrent: (caller: Identity) =>
        caller === connection.identity ? connection.isCurrent() : this.service.authentication.isCurrent(caller) !== false,
      refuseBrowser: (asked: IncomingMessage) => refuseBrowser(asked, connection.hosts),
    };
    void answer(context, request, response);
  }

  private onClientError(error: Error & { code?: string }, socket: Socket): void {
    if (error.code?.startsWith('HPE_')) this.service.watch.counters.refused('protocol');
    this.service.log('debug', 'http_error', { code: error.code, actor: this.connections.get(socket)?.identity.actor });
    // Never in the place of an answer that another request still waits for; one whose time is up is itself under way.
    const own = error.code === REQUEST_TIMEOUT ? 1 : 0;
    if (!socket.writable || socket.bytesWritten > 0 || (this.connections.get(socket)?.requests ?? 0) > own) {
      socket.destroy();
      return;
    }
    const status = PARSER_STATUS[error.code ?? ''] ?? '400 Bad Request';
    socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`, () => socket.destroy());
  }
}

/**
 * A page in somebody's browser must not be able to use the key service that its user may use: neither as itself, nor under a
 * name of its own that it has made to lead here (DNS rebinding).
 */
function refuseBrowser({ headers }: IncomingMessage, hosts: ReadonlySet<string> | undefined): void {
  if (hosts !== undefined && !hosts.has(headers.host?.toLowerCase() ?? '')) {
    throw new KmsError('PERMISSION_DENIED', 'the Host is not this listener');
  }
  if (Object.keys(headers).some(isOfBrowser)) {
    throw new KmsError('PERMISSION_DENIED', 'requests of a browser are refused');
  }
}
