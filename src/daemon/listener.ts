import { chmodSync, chownSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { KmsError } from '../errors.js';
import { SWEEP_INTERVAL_MS } from '../limits.js';
import { type Acceptor, type AcceptorEvents, binding, type Peer } from '../native.js';
import { Admission, KNOWN } from './admission.js';
import { SharedBuffers } from './buffers.js';
import { written } from './config/endpoint.js';
import type { HostPort } from './config.js';
import { Connection, type Source } from './connection.js';
import type { Surface } from './counters.js';
import { HttpSurface } from './http/surface.js';
import { type Access, ANONYMOUS, type Identity, isLoopback, isSame, NO_UID } from './identity.js';
import { Burst, errorFields } from './log.js';
import type { Issuer } from './oidc/issuer.js';
import type { Service } from './operations.js';
import { type Expiries, expiriesOf, type Material } from './tls/files.js';
import { Handshakes, type Secured } from './tls/handshakes.js';
import { refuse } from './tls/refusal.js';

/** The first byte of the binary protocol: every frame is shorter than 16 MiB. */
const BINARY = 0x00;
/** Sweeps that somebody unknown may take to come with a token. */
const ANONYMOUS_SWEEPS = 30;

/** The first byte of a TLS record that begins a handshake: RFC 8446, section 5.1. */
const TLS_HANDSHAKE = 0x16;

/** The binary protocol, or the letter of a method of HTTP/1.1. */
function isProtocol(firstByte: number): boolean {
  return firstByte === BINARY || (firstByte >= 0x41 && firstByte <= 0x5a);
}

/** A peer that has spoken, in either protocol. */
interface Served {
  readonly surface: Surface;
  readonly identity: Identity;
  /** False as long as nobody has come with a token. */
  readonly isKnown: boolean;
  finish(): void;
  destroy(): void;
  sweep(): void;
}

/** What is known of it beside. */
interface Held {
  /** As whom it is counted. */
  counted: number;
  /** Who its peer is now, before anything that it says; undefined if it would be refused. */
  peerNow(): Identity | undefined;
  /** Whether what its handshake rested on still holds. */
  isTrusted(): boolean;
  /** In which it was nobody. */
  sweeps: number;
}

/** One listening socket. */
interface Door {
  /** What may stand in `Host`; undefined where no name leads there, or a certificate proves the name. */
  hosts: ReadonlySet<string> | undefined;
  /** Undefined where no TLS is spoken. */
  handshakes: Handshakes | undefined;
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
  private readonly handshakes: Handshakes[] = [];
  private sweeper: NodeJS.Timeout | undefined;
  private whenEmpty: (() => void) | undefined;

  /** `material` is for the endpoints with TLS; it is not needed without. */
  constructor(
    private readonly service: Service,
    private material?: Material,
  ) {
    this.http = new HttpSurface(service);
    this.refused = new Burst(service.log, 'warn', 'peer_refused');
  }

  /** Connections that have spoken and are open. */
  get size(): number {
    return this.connections.size;
  }

  connectionsOf(surface: Surface): number {
    return [...this.connections.keys()].filter((connection) => connection.surface === surface).length;
  }

  tlsExpiries(): Partial<Expiries> {
    return this.material === undefined ? {} : expiriesOf(this.material);
  }

  heldBytes(): number {
    return this.service.accounts.held.bytes;
  }

  /** The ports of the endpoints, in their order. Throws CONFLICT or what the system says if one cannot be had; none is left open then. */
  start({ inherited, socket, socketGroup, endpoints }: Address): number[] {
    const { firstByteMs } = this.service.timeouts;
    try {
      for (const fd of inherited) this.adopt(fd);
      if (socket !== undefined && inherited.length === 0) {
        this.acceptors.push(
          binding.listenUnix(socket, 0o600, firstByteMs, this.events({ hosts: undefined, handshakes: undefined })),
        );
        if (socketGroup !== undefined) openTo(socket, socketGroup);
      }
      const ports = endpoints.map((endpoint) => this.open(endpoint));
      this.sweeper = setInterval(() => this.sweep(), SWEEP_INTERVAL_MS);
      return ports;
    } catch (error) {
      this.stopAccepting();
      this.http.close();
      throw error;
    }
  }

  /**
   * From now on. Whoever is somebody else by it has to come again, and whose certificate does not lead to an authority of
   * `material` any more: a connection keeps the roles that it began with.
   */
  replaceAccess(access: Access, issuer: Issuer | undefined, material: Material | undefined): void {
    this.service.authentication.replace(access, issuer);
    if (material !== undefined) for (const one of this.handshakes) one.replace(material);
    this.material = material;
    for (const [connection, held] of this.connections) {
      if (!this.isCurrent(connection, held) || !held.isTrusted()) connection.finish();
    }
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
  private open(endpoint: HostPort): number {
    const { host, port, isTls } = endpoint;
    if (!isLoopback(host) && !this.service.authentication.knowsStrangers) {
      const remedy = 'list certificates, or make a token first';
      throw new KmsError('INVALID_ARGUMENT', `${written(endpoint)}: nobody beyond this machine is known: ${remedy}`);
    }
    const door: Door = { hosts: undefined, handshakes: isTls === true ? this.newHandshakes() : undefined };
    const acceptor = binding.listenTcp(host, port, this.service.timeouts.firstByteMs, this.events(door));
    this.acceptors.push(acceptor);
    if (!isTls) door.hosts = hostsOf(host, acceptor.port);
    return acceptor.port;
  }

  private adopt(fd: number): void {
    const door: Door = { hosts: undefined, handshakes: undefined };
    const acceptor = binding.listenFd(fd, this.service.timeouts.firstByteMs, this.events(door));
    // Nothing has been accepted yet: that is for a later turn of the event loop.
    this.acceptors.push(acceptor);
    const { address, port } = acceptor;
    if (address === '') return;
    if (isLoopback(address)) door.hosts = hostsOf(address, port);
    else if (this.material !== undefined && this.service.authentication.knowsStrangers) door.handshakes = this.newHandshakes();
    else throw new KmsError('INVALID_ARGUMENT', 'an inherited socket beyond loopback: it needs TLS, and somebody who is known');
  }

  private newHandshakes(): Handshakes {
    if (this.material === undefined) throw new Error('an endpoint with TLS and no certificate');
    const failed = (why: string) => this.service.log('debug', 'handshake_failed', { why });
    const handshakes = new Handshakes(this.material, this.service.timeouts.firstByteMs, failed);
    this.handshakes.push(handshakes);
    return handshakes;
  }

  private stopAccepting(): void {
    for (const acceptor of this.acceptors) acceptor.close();
    for (const one of this.handshakes) one.close();
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

  private events(door: Door): AcceptorEvents {
    const { authentication } = this.service;
    /** TCP peers that came as nobody and have not spoken yet, by their end of the connection, which is nobody else's meanwhile. */
    const nobodies = new Set<string>();
    const endOf = ({ address, port }: Peer) => `${address} ${port}`;
    // Under which uid a peer is counted is settled when it comes: the configuration may change before it speaks or goes.
    const counted = (peer: Peer) => (nobodies.delete(endOf(peer)) ? NO_UID : peer.uid);
    return {
      onPeer: (peer) =>
        this.guarded(() => {
          const identity = authentication.ofPeer(peer, door.handshakes !== undefined);
          if (!this.admit(peer, identity)) return false;
          if (identity === ANONYMOUS) nobodies.add(endOf(peer));
          return true;
        }) ?? false,
      onReady: (fd, peer, firstByte) => this.guarded(() => this.ready(fd, peer, counted(peer), firstByte, door)),
      onGone: (peer) => this.guarded(() => this.admission.release(counted(peer))),
    };
  }

  /** Nobodies share one count, whatever their uids: there may be thousands of those. */
  private admit(peer: Peer, identity: Identity | undefined): boolean {
    const { uid, pid, address } = peer;
    const reason =
      identity === undefined ? 'this uid is not configured' : this.admission.admit(identity === ANONYMOUS ? NO_UID : uid);
    if (reason === undefined) return true;
    this.service.watch.counters.refused(identity === undefined ? 'peer' : 'connections');
    this.refused.note(() => ({ uid, ...(address === '' ? { pid } : { address }), reason }));
    return false;
  }

  /** A peer that has spoken: over TLS it has said only that it wants to. */
  private ready(fd: number, peer: Peer, counted: number, firstByte: number, door: Door): void {
    const { handshakes } = door;
    const identity = this.service.authentication.ofPeer(peer, handshakes !== undefined);
    const isKnown = handshakes === undefined ? isProtocol(firstByte) : firstByte === TLS_HANDSHAKE;
    if (identity === undefined || !isKnown || this.acceptors.length === 0) {
      binding.closeFd(fd);
      this.admission.release(counted);
      if (identity === undefined) this.service.watch.counters.refused('peer');
      else if (!isKnown) this.service.watch.counters.refused('protocol');
      this.service.log('debug', 'unknown_protocol', { uid: peer.uid, first_byte: firstByte });
      return;
    }
    try {
      if (handshakes !== undefined) {
        handshakes.take(fd, (secured) => this.guarded(() => this.secured(secured, peer, counted, handshakes)));
        return;
      }
      const peerNow = () => this.service.authentication.ofPeer(peer);
      this.serve({ fd }, firstByte, identity, door.hosts, { counted, peerNow, isTrusted: () => true, sweeps: 0 });
    } catch (error) {
      binding.closeFd(fd);
      this.admission.release(counted);
      throw error;
    }
  }

  /** Its certificate says who it is if it names somebody; otherwise it is who it would be without. */
  private secured(secured: Secured | undefined, peer: Peer, counted: number, handshakes: Handshakes): void {
    if (secured === undefined) {
      this.admission.release(counted);
      return;
    }
    const { socket, firstByte, certificate, chain, fault } = secured;
    const { authentication } = this.service;
    const named = () => (certificate === undefined ? undefined : authentication.ofCertificate(certificate));
    const peerNow = () => named() ?? authentication.ofPeer(peer);
    const identity = fault === '' ? peerNow() : undefined;
    const held = {
      counted,
      peerNow,
      isTrusted: () => certificate === undefined || handshakes.whyNotTrusted(chain) === '',
      sweeps: 0,
    };
    const reason =
      identity === undefined
        ? fault || unknownPeer(certificate !== undefined)
        : this.recount(held, identity, named() !== undefined);
    if (identity !== undefined && reason === undefined && isProtocol(firstByte) && this.acceptors.length > 0) {
      this.serve({ socket }, firstByte, identity, undefined, held);
      return;
    }
    this.admission.release(held.counted);
    this.service.watch.counters.refused(identity === undefined ? 'peer' : reason === undefined ? 'protocol' : 'connections');
    if (reason !== undefined) this.refused.note(() => ({ address: peer.address, reason }));
    if (identity === undefined) refuse(socket, firstByte);
    else socket.destroy();
  }

  /** Who has proved to be somebody is counted by its name. Why it cannot be; undefined, and `held` says so, if it can. */
  private recount(held: Held, identity: Identity, byCertificate: boolean): string | undefined {
    if (!byCertificate) return undefined;
    if (this.service.accounts.of(identity).isCrowded) return 'too many connections of this identity';
    this.admission.forget(held.counted);
    held.counted = KNOWN;
    return undefined;
  }

  /** Throws, and owns nothing then, if the descriptor cannot be used. */
  private serve(source: Source, firstByte: number, identity: Identity, hosts: Door['hosts'], held: Held): void {
    const events = {
      onKnown: (connection: Served) => this.known(connection),
      onClose: (connection: Served) => this.closed(connection),
    };
    const isCurrent = () => isStill(identity, held);
    const connection =
      firstByte === BINARY
        ? new Connection(source, this.service, this.buffers, identity, events)
        : this.http.take(source, identity, hosts, isCurrent, events);
    this.connections.set(connection, held);
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
  private isCurrent({ identity }: Served, held: Held): boolean {
    return this.service.authentication.isCurrent(identity) ?? isStill(identity, held);
  }

  private sweep(): void {
    for (const [connection, held] of this.connections) {
      connection.sweep();
      if (!connection.isKnown && ++held.sweeps > ANONYMOUS_SWEEPS) connection.finish();
      // A token may have been revoked; it and a certificate may have expired.
      if (this.service.authentication.isCurrent(connection.identity) === false) connection.finish();
    }
    this.service.authentication.sweep();
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

function isStill(identity: Identity, { peerNow }: Held): boolean {
  const now = peerNow();
  return now !== undefined && isSame(now, identity);
}

function unknownPeer(hasCertificate: boolean): string {
  return hasCertificate ? 'no name of its certificate is configured' : 'it has no certificate, and its uid is not configured';
}

/** In this order the socket is never open to the group that it happened to be made with. */
function openTo(socket: string, group: number): void {
  try {
    chownSync(socket, -1, group);
    chmodSync(socket, 0o660);
  } catch (cause) {
    const rule = `the socket cannot be given to group ${group}: the user of the daemon must be a member of it`;
    throw new KmsError('INVALID_ARGUMENT', `--group: ${rule}`, { cause });
  }
}
