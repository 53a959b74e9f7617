import { setTimeout as delay } from 'node:timers/promises';
import type { ErrorCode } from '../errors.js';
import { SWEEP_INTERVAL_MS } from '../limits.js';
import type { AcceptorEvents, Peer } from '../listening.js';
import { binding } from '../native.js';
import { Admission, KNOWN } from './admission.js';
import { SharedBuffers } from './buffers.js';
import { Connection } from './connection.js';
import type { Surface } from './counters.js';
import { type Address, type Door, Doors } from './doors.js';
import { HttpSurface } from './http/surface.js';
import { type Access, ANONYMOUS, type Identity, isSame, NO_UID } from './identity.js';
import { Burst, errorFields } from './log.js';
import type { Issuer } from './oidc/issuer.js';
import type { Service } from './operations.js';
import { Requests } from './requests.js';
import type { Source } from './source.js';
import type { Expiries, Material } from './tls/files.js';
import type { Handshakes, Secured } from './tls/handshakes.js';
import { refuse } from './tls/refusal.js';
import type { Pool } from './workers/pool.js';

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

/** Connections so far on the binary protocol: what lines of the log tell them apart by. */
let opened = 0;

/** A peer that has spoken, in either protocol. */
interface Served {
  readonly surface: Surface;
  readonly identity: Identity;
  /** False as long as nobody has come with a token. */
  readonly isKnown: boolean;
  /** Where it `isOver` its peer is not who it was any more: nothing is begun for it from here on, on whichever thread it was read. */
  finish(isOver?: boolean): void;
  destroy(): void;
  sweep(): void;
}

/** What a peer tells of itself. */
interface ServedEvents {
  onKnown(connection: Served): void;
  onClose(connection: Served): void;
}

/** What is known of it beside. */
interface Standing {
  /** As whom it is counted. */
  counted: number;
  /** Who its peer is now, before anything that it says; undefined if it would be refused. */
  peerNow(): Identity | undefined;
  /** Whether what its handshake rested on still holds. */
  isTrusted(): boolean;
  /** A new reading of the configuration has made its peer somebody else. */
  isOver: boolean;
  /** In which it was nobody. */
  sweeps: number;
}

/** The listening sockets: admit peers by who they are and within the limits, and hand those that speak to their protocol. */
export class Listener {
  private readonly connections = new Map<Served, Standing>();
  private readonly admission = new Admission();
  private readonly buffers = new SharedBuffers();
  private readonly http: HttpSurface;
  private readonly refused: Burst;
  private readonly doors: Doors;
  private sweeper: NodeJS.Timeout | undefined;
  private whenEmpty: (() => void) | undefined;

  /** `material` is for the endpoints with TLS; it is not needed without. */
  constructor(
    private readonly service: Service,
    material?: Material,
    /** Undefined where the main thread serves all. */
    private readonly workers?: Pool,
  ) {
    this.doors = new Doors(service, material, (door) => this.events(door));
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
    return this.doors.expiries();
  }

  /** Threads that serve, the main thread among them where there are no others; and how often one was replaced. */
  threads(): { workers: number; replaced: number } {
    return { workers: this.workers?.size ?? 1, replaced: this.workers?.replaced ?? 0 };
  }

  heldBytes(): number {
    return this.service.accounts.held.bytes;
  }

  /** The ports of the endpoints, in their order. Throws as `Doors.open`. */
  start(address: Address): number[] {
    try {
      const ports = this.doors.open(address);
      this.sweeper = setInterval(() => this.sweep(), SWEEP_INTERVAL_MS);
      return ports;
    } catch (error) {
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
    this.doors.replace(material);
    for (const [connection, standing] of this.connections) {
      standing.isOver = !this.isCurrent(connection, standing) || !standing.isTrusted();
      if (standing.isOver) connection.finish(true);
    }
  }

  /** Accepts no more, answers what is under way for at most `graceMs`, then closes every connection. */
  async stop(graceMs: number): Promise<void> {
    this.doors.close();
    for (const connection of this.connections.keys()) connection.finish();
    await this.emptied(graceMs);
    for (const connection of this.connections.keys()) connection.destroy();
    await this.emptied(SWEEP_INTERVAL_MS);
    clearInterval(this.sweeper);
    this.http.close();
    this.sweep();
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
    return {
      // Under which uid a peer is counted is settled when it comes: the configuration may change before it speaks or goes.
      onPeer: (peer) => this.guarded(() => this.admit(peer, authentication.ofPeer(peer, door.handshakes !== undefined))),
      onReady: (fd, peer, firstByte, counted) => this.guarded(() => this.ready(fd, peer, counted, firstByte, door)),
      onGone: (_, counted) => this.guarded(() => this.admission.release(counted)),
    };
  }

  /**
   * The uid under which it is counted; undefined if it is refused. Nobodies share one count, whatever their uids: there may be
   * thousands of those.
   */
  private admit({ uid, pid, address }: Peer, identity: Identity | undefined): number | undefined {
    const counted = identity === ANONYMOUS ? NO_UID : uid;
    const reason = identity === undefined ? 'this uid is not configured' : this.admission.admit(counted);
    if (reason === undefined) return counted;
    this.service.watch.counters.refused(identity === undefined ? 'peer' : 'connections');
    if (identity === undefined) this.deny(uid === NO_UID ? 'anonymous' : `uid:${uid}`, 'PERMISSION_DENIED', address);
    this.refused.note(() => ({ uid, ...(address === '' ? { pid } : { address }), reason }));
    return undefined;
  }

  /** A peer that has spoken: over TLS it has said only that it wants to. */
  private ready(fd: number, peer: Peer, counted: number, firstByte: number, door: Door): void {
    const { handshakes } = door;
    const identity = this.service.authentication.ofPeer(peer, handshakes !== undefined);
    const isKnown = handshakes === undefined ? isProtocol(firstByte) : firstByte === TLS_HANDSHAKE;
    if (identity === undefined || !isKnown || !this.doors.areOpen) {
      binding.closeFd(fd);
      this.admission.release(counted);
      if (identity === undefined) this.service.watch.counters.refused('peer');
      else if (!isKnown) {
        this.service.watch.counters.refused('protocol');
        this.service.log('debug', 'unknown_protocol', { uid: peer.uid, first_byte: firstByte });
      }
      return;
    }
    try {
      if (handshakes !== undefined) {
        handshakes.take(fd, (secured) => this.guarded(() => this.secured(secured, peer, counted, handshakes)));
        return;
      }
      const peerNow = () => this.service.authentication.ofPeer(peer);
      this.serve({ fd }, firstByte, identity, door.hosts, { counted, peerNow, isTrusted: () => true, isOver: false, sweeps: 0 });
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
    const standing = {
      counted,
      peerNow,
      isTrusted: () => certificate === undefined || handshakes.whyNotTrusted(chain) === '',
      isOver: false,
      sweeps: 0,
    };
    const reason =
      identity === undefined
        ? fault || unknownPeer(certificate !== undefined)
        : this.recount(standing, identity, named() !== undefined);
    if (identity !== undefined && reason === undefined && isProtocol(firstByte) && this.doors.areOpen) {
      this.serve({ socket }, firstByte, identity, undefined, standing);
      return;
    }
    // It takes a descriptor until it has read why.
    socket.once('close', () => this.admission.release(standing.counted));
    this.service.watch.counters.refused(identity === undefined ? 'peer' : reason === undefined ? 'protocol' : 'connections');
    if (reason !== undefined) this.refused.note(() => ({ address: peer.address, reason }));
    if (identity === undefined) this.deny('anonymous', 'UNAUTHENTICATED', peer.address);
    if (identity === undefined) refuse(socket, firstByte);
    else socket.destroy();
  }

  private deny(actor: string, outcome: ErrorCode, address: string): void {
    this.service.denials.note({ actor, operation: 'connect', outcome, address });
  }

  /** Who has proved to be somebody is counted by its name. Why it cannot be; undefined, and `standing` says so, if it can. */
  private recount(standing: Standing, identity: Identity, byCertificate: boolean): string | undefined {
    if (!byCertificate) return undefined;
    if (this.service.accounts.of(identity).isCrowded) return 'too many connections of this identity';
    this.admission.forget(standing.counted);
    standing.counted = KNOWN;
    return undefined;
  }

  /** Throws, and owns nothing then, if the descriptor cannot be used. */
  private serve(source: Source, firstByte: number, identity: Identity, hosts: Door['hosts'], standing: Standing): void {
    const events = {
      onKnown: (connection: Served) => this.known(connection),
      onClose: (connection: Served) => this.closed(connection),
    };
    // Asked for each request: who a peer is changes only by a reload, which says so, and when its certificate ends.
    const isCurrent = () => !standing.isOver && this.service.authentication.isCurrent(identity) !== false;
    const connection =
      firstByte === BINARY
        ? this.serveBinary(source, identity, events)
        : this.http.take(source, identity, hosts, isCurrent, events);
    this.connections.set(connection, standing);
  }

  /** By a worker, if there is one; TLS ends on the main thread. */
  private serveBinary(source: Source, identity: Identity, events: ServedEvents): Served {
    const { service, workers } = this;
    const number = ++opened;
    const counterpart = 'fd' in source ? workers?.open(number, source.fd, identity, events) : undefined;
    if (counterpart !== undefined) return counterpart;
    return new Connection(source, service, this.buffers, identity, events, (connection, outlet) => {
      return new Requests(service, connection, outlet, number);
    });
  }

  /** Nobody's places are few, and are for those who have not said who they are. */
  private known(connection: Served): void {
    const standing = this.connections.get(connection);
    if (standing?.counted !== NO_UID) return;
    this.admission.forget(standing.counted);
    standing.counted = KNOWN;
  }

  private closed(connection: Served): void {
    const standing = this.connections.get(connection);
    if (standing === undefined) return;
    this.connections.delete(connection);
    this.admission.release(standing.counted);
    if (this.connections.size === 0) this.whenEmpty?.();
  }

  /** Whether it is still who it was when it was taken on, or when it came with its token. */
  private isCurrent({ identity }: Served, standing: Standing): boolean {
    return this.service.authentication.isCurrent(identity) ?? isStill(identity, standing);
  }

  private sweep(): void {
    for (const [connection, standing] of this.connections) {
      connection.sweep();
      if (!connection.isKnown && ++standing.sweeps > ANONYMOUS_SWEEPS) connection.finish();
      // A token may have been revoked; it and a certificate may have expired.
      if (this.service.authentication.isCurrent(connection.identity) === false) connection.finish(true);
    }
    this.workers?.sweep();
    this.service.authentication.sweep();
    this.refused.turn();
    this.service.failures.turn();
    this.service.denials.turn();
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

function isStill(identity: Identity, { peerNow }: Standing): boolean {
  const now = peerNow();
  return now !== undefined && isSame(now, identity);
}

function unknownPeer(hasCertificate: boolean): string {
  return hasCertificate ? 'no name of its certificate is configured' : 'it has no certificate, and its uid is not configured';
}
