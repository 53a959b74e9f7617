import { chmodSync, chownSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { KmsError } from '../errors.js';
import { SWEEP_INTERVAL_MS } from '../limits.js';
import { type Acceptor, type AcceptorEvents, binding, type Peer } from '../native.js';
import { Admission, KNOWN } from './admission.js';
import { SharedBuffers } from './buffers.js';
import type { HostPort } from './config.js';
import { Connection } from './connection.js';
import { HttpSurface } from './http/surface.js';
import { type Access, ANONYMOUS, type Identity, isLoopback, isSame, NO_UID } from './identity.js';
import { Burst, errorFields } from './log.js';
import type { Service } from './operations.js';

/** The first byte of the binary protocol: every frame is shorter than 16 MiB. */
const BINARY = 0x00;
/** Sweeps that somebody unknown may take to come with a token. */
const ANONYMOUS_SWEEPS = 30;

/** The first byte of an HTTP/1.1 request: a letter of its method. */
function isLetter(byte: number): boolean {
  return byte >= 0x41 && byte <= 0x5a;
}

/** A peer that has spoken, in either protocol. */
interface Served {
  readonly identity: Identity;
  /** False as long as nobody has come with a token. */
  readonly isKnown: boolean;
  finish(): void;
  destroy(): void;
  sweep(): void;
}

/** What is known of it beside. */
interface Held {
  peer: Peer;
  /** Under which uid it is counted. */
  counted: number;
  /** In which it was nobody. */
  sweeps: number;
}

export interface Address {
  /** Listening sockets that were bound for us; with any of them `socket` is not bound. */
  inherited: readonly number[];
  socket: string | undefined;
  /** The group that may connect, beside the owner. */
  socketGroup: number | undefined;
  endpoints: readonly HostPort[];
}

/** What may stand in the `Host` of a request to this endpoint. */
function hostsOf(host: string, port: number): ReadonlySet<string> {
  const names = [host.includes(':') ? `[${host}]` : host, 'localhost'];
  return new Set(names.flatMap((name) => (port === 80 ? [name, `${name}:80`] : [`${name}:${port}`])));
}

/** The listening sockets: admit peers by who they are and within the limits, and hand those that speak to their protocol. */
export class Listener {
  private readonly connections = new Map<Served, Held>();
  private readonly admission = new Admission();
  private readonly buffers = new SharedBuffers();
  private readonly http: HttpSurface;
  private readonly refused: Burst;
  private acceptors: Acceptor[] = [];
  private sweeper: NodeJS.Timeout | undefined;
  private whenEmpty: (() => void) | undefined;

  constructor(private readonly service: Service) {
    this.http = new HttpSurface(service);
    this.refused = new Burst(service.log, 'warn', 'peer_refused');
  }

  /** Connections that have spoken and are open. */
  get size(): number {
    return this.connections.size;
  }

  /** The ports of the endpoints, in their order. Throws CONFLICT or what the system says if one cannot be had; none is left open then. */
  start({ inherited, socket, socketGroup, endpoints }: Address): number[] {
    const { firstByteMs } = this.service.timeouts;
    try {
      for (const fd of inherited) this.adopt(fd);
      if (socket !== undefined && inherited.length === 0) {
        this.acceptors.push(
          binding.listenUnix(
            socket,
            0o600,
            firstByteMs,
            this.events(() => undefined),
          ),
        );
        if (socketGroup !== undefined) openTo(socket, socketGroup);
      }
      const ports = endpoints.map(({ host, port }) => this.open(host, port));
      this.sweeper = setInterval(() => this.sweep(), SWEEP_INTERVAL_MS);
      return ports;
    } catch (error) {
      this.stopAccepting();
      this.http.close();
      throw error;
    }
  }

  /** From now on. Whoever is somebody else by it has to come again: a connection keeps the roles that it began with. */
  replaceAccess(access: Access): void {
    this.service.authentication.replace(access);
    for (const [connection, held] of this.connections) if (!this.isCurrent(connection, held)) connection.finish();
  }

  /** Accepts no more, answers what is under way for at most `graceMs`, then closes every connection. */
  async stop(graceMs: number): Promise<void> {
    this.stopAccepting();
    for (const connection of this.connections.keys()) connection.finish();
    await this.emptied(graceMs);
    for (const connection of this.connections.keys()) connection.destroy();
    await this.emptied(SWEEP_INTERVAL_MS);
    clearInterval(this.sweeper);
    this.http.close();
    this.sweep();
  }

  /** The port that it has. */
  private open(host: string, port: number): number {
    let hosts: ReadonlySet<string> | undefined;
    const events = this.events(() => hosts);
    const acceptor = binding.listenTcp(host, port, this.service.timeouts.firstByteMs, events);
    this.acceptors.push(acceptor);
    hosts = hostsOf(host, acceptor.port);
    return acceptor.port;
  }

  private adopt(fd: number): void {
    let hosts: ReadonlySet<string> | undefined;
    const events = this.events(() => hosts);
    const acceptor = binding.listenFd(fd, this.service.timeouts.firstByteMs, events);
    // Nothing has been accepted yet: that is for a later turn of the event loop.
    this.acceptors.push(acceptor);
    const { address, port } = acceptor;
    if (address === '') return;
    if (!isLoopback(address)) throw new KmsError('UNSUPPORTED', 'an inherited socket beyond loopback: it needs TLS');
    hosts = hostsOf(address, port);
  }

  private stopAccepting(): void {
    for (const acceptor of this.acceptors) acceptor.close();
    this.acceptors = [];
  }

  private async emptied(withinMs: number): Promise<void> {
    if (this.connections.size === 0) return;
    const timer = new AbortController();
    const empty = new Promise<void>((resolve) => {
      this.whenEmpty = resolve;
    });
    await Promise.race([empty, delay(withinMs, undefined, { signal: timer.signal }).catch(() => {})]);
    timer.abort();
  }

  /** `hosts` are known once the endpoint has its port. */
  private events(hosts: () => ReadonlySet<string> | undefined): AcceptorEvents {
    /** TCP peers that came as nobody and have not spoken yet, by their end of the connection, which is nobody else's meanwhile. */
    const nobodies = new Set<string>();
    const endOf = ({ address, port }: Peer) => `${address} ${port}`;
    // Under which uid a peer is counted is settled when it comes: the configuration may change before it speaks or goes.
    const counted = (peer: Peer) => (nobodies.delete(endOf(peer)) ? NO_UID : peer.uid);
    return {
      onPeer: (peer) =>
        this.guarded(() => {
          const identity = this.service.authentication.ofPeer(peer);
          if (!this.admit(peer, identity)) return false;
          if (identity === ANONYMOUS) nobodies.add(endOf(peer));
          return true;
        }) ?? false,
      onReady: (fd, peer, firstByte) => this.guarded(() => this.ready(fd, peer, counted(peer), firstByte, hosts())),
      onGone: (peer) => this.guarded(() => this.admission.release(counted(peer))),
    };
  }

  /** Nobodies share one count, whatever their uids: there may be thousands of those. */
  private admit(peer: Peer, identity: Identity | undefined): boolean {
    const { uid, pid, address } = peer;
    const reason =
      identity === undefined ? 'this uid is not configured' : this.admission.admit(identity === ANONYMOUS ? NO_UID : uid);
    if (reason === undefined) return true;
    this.refused.note(() => ({ uid, ...(address === '' ? { pid } : { address }), reason }));
    return false;
  }

  private ready(fd: number, peer: Peer, counted: number, firstByte: number, hosts: ReadonlySet<string> | undefined): void {
    const identity = this.service.authentication.ofPeer(peer);
    const isKnown = firstByte === BINARY || isLetter(firstByte);
    if (identity === undefined || !isKnown || this.acceptors.length === 0) {
      binding.closeFd(fd);
      this.admission.release(counted);
      this.service.log('debug', 'unknown_protocol', { uid: peer.uid, first_byte: firstByte });
      return;
    }
    const events = {
      onKnown: (connection: Served) => this.known(connection),
      onClose: (connection: Served) => this.closed(connection),
    };
    try {
      const connection =
        firstByte === BINARY
          ? new Connection(fd, this.service, this.buffers, identity, events)
          : this.http.take(fd, identity, hosts, () => this.isStill(identity, peer), events);
      this.connections.set(connection, { peer, counted, sweeps: 0 });
    } catch (error) {
      binding.closeFd(fd);
      this.admission.release(counted);
      throw error;
    }
  }

  /** Nobody's places are few, and are for those who have not said who they are. */
  private known(connection: Served): void {
    const held = this.connections.get(connection);
    if (held?.counted !== NO_UID) return;
    this.admission.forget(held.counted);
    held.counted = KNOWN;
  }

  private closed(connection: Served): void {
    const held = this.connections.get(connection);
    if (held === undefined) return;
    this.connections.delete(connection);
    this.admission.release(held.counted);
    if (this.connections.size === 0) this.whenEmpty?.();
  }

  /** Whether it is still who it was when it was taken on, or when it came with its token. */
  private isCurrent({ identity }: Served, { peer }: Held): boolean {
    if (identity.actor.startsWith('token:')) return this.service.authentication.isCurrent(identity);
    return this.isStill(identity, peer);
  }

  private isStill(identity: Identity, peer: Peer): boolean {
    const now = this.service.authentication.ofPeer(peer);
    return now !== undefined && isSame(now, identity);
  }

  private sweep(): void {
    for (const [connection, held] of this.connections) {
      connection.sweep();
      if (!connection.isKnown && ++held.sweeps > ANONYMOUS_SWEEPS) connection.finish();
      // A token may have been revoked, or have expired.
      if (connection.identity.actor.startsWith('token:') && !this.isCurrent(connection, held)) connection.finish();
    }
    this.refused.turn();
    this.service.failures.turn();
    this.service.keyStates.turn();
    this.service.accounts.sweep();
  }

  /** The native core calls us: an exception must not go through it, and one peer's must not touch the others. */
  private guarded<T>(call: () => T): T | undefined {
    try {
      return call();
    } catch (error) {
      this.service.log('error', 'accept_failed', errorFields(error));
      return undefined;
    }
  }
}

/** In this order the socket is never open to the group that it happened to be made with. */
function openTo(socket: string, group: number): void {
  try {
    chownSync(socket, -1, group);
    chmodSync(socket, 0o660);
  } catch (cause) {
    throw new KmsError('INVALID_ARGUMENT', `--group: the socket cannot be given to group ${group}`, { cause });
  }
}
