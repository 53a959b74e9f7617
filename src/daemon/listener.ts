import { chmodSync, chownSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { KmsError } from '../errors.js';
import { MAX_CONNECTIONS, MAX_CONNECTIONS_PER_UID, SWEEP_INTERVAL_MS } from '../limits.js';
import { type Acceptor, binding, type Peer } from '../native.js';
import { SharedBuffers } from './buffers.js';
import { Connection } from './connection.js';
import { HttpSurface } from './http/surface.js';
import { type Access, type Identity, identify } from './identity.js';
import { Burst, errorFields } from './log.js';
import type { Service } from './operations.js';

/** The first byte of the binary protocol: every frame is shorter than 16 MiB. */
const BINARY = 0x00;

/** The first byte of an HTTP/1.1 request: a letter of its method. */
function isLetter(byte: number): boolean {
  return byte >= 0x41 && byte <= 0x5a;
}

/** A peer that has spoken, in either protocol. */
interface Served {
  finish(): void;
  destroy(): void;
  sweep(): void;
}

export interface Address {
  socket: string;
  /** The group that may connect, beside the owner. */
  socketGroup: number | undefined;
}

/** The Unix socket: admits peers by their uid and within the limits, and hands those that speak to their connections. */
export class Listener {
  private readonly connections = new Set<Served>();
  /** Admitted peers by uid, those included that have not said anything yet. */
  private readonly admitted = new Map<number, number>();
  private admittedCount = 0;
  private readonly buffers = new SharedBuffers();
  private readonly http: HttpSurface;
  private readonly refused: Burst;
  private readonly ownUid = process.geteuid?.() ?? -1;
  private acceptor: Acceptor | undefined;
  private sweeper: NodeJS.Timeout | undefined;
  private whenEmpty: (() => void) | undefined;

  constructor(
    private readonly service: Service,
    private readonly access: Access,
  ) {
    this.http = new HttpSurface(service, this.buffers.held);
    this.refused = new Burst(service.log, 'warn', 'peer_refused');
  }

  /** Connections that have spoken and are open. */
  get size(): number {
    return this.connections.size;
  }

  /** Throws CONFLICT or what the system says if the socket cannot be had. */
  start({ socket, socketGroup }: Address): void {
    this.acceptor = binding.listenUnix(socket, 0o600, this.service.timeouts.firstByteMs, {
      onPeer: (peer) => this.guarded(() => this.admit(peer)) ?? false,
      onReady: (fd, peer, firstByte) => this.guarded(() => this.ready(fd, peer, firstByte)),
      onGone: (peer) => this.guarded(() => this.release(peer.uid)),
    });
    if (socketGroup !== undefined) this.openTo(socket, socketGroup);
    this.sweeper = setInterval(() => this.sweep(), SWEEP_INTERVAL_MS);
  }

  /** Accepts no more, answers what is under way for at most `graceMs`, then closes every connection. */
  async stop(graceMs: number): Promise<void> {
    this.acceptor?.close();
    this.acceptor = undefined;
    for (const connection of this.connections) connection.finish();
    await this.emptied(graceMs);
    for (const connection of this.connections) connection.destroy();
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

  /** In this order the socket is never open to the group that it happened to be made with. */
  private openTo(socket: string, group: number): void {
    try {
      chownSync(socket, -1, group);
      chmodSync(socket, 0o660);
    } catch (cause) {
      this.acceptor?.close();
      throw new KmsError('INVALID_ARGUMENT', `--group: the socket cannot be given to group ${group}`, { cause });
    }
  }

  private admit(peer: Peer): boolean {
    const reason = this.refusalOf(peer);
    if (reason !== undefined) {
      this.refused.note(() => ({ uid: peer.uid, pid: peer.pid, reason }));
      return false;
    }
    this.admittedCount++;
    this.admitted.set(peer.uid, (this.admitted.get(peer.uid) ?? 0) + 1);
    return true;
  }

  private refusalOf({ uid }: Peer): string | undefined {
    if (this.identityOf(uid) === undefined) return 'this uid is not configured';
    if (this.admittedCount >= MAX_CONNECTIONS) return 'too many connections';
    if ((this.admitted.get(uid) ?? 0) >= MAX_CONNECTIONS_PER_UID) return 'too many connections of this uid';
    return undefined;
  }

  private identityOf(uid: number): Identity | undefined {
    return identify(uid, this.ownUid, this.access);
  }

  private ready(fd: number, peer: Peer, firstByte: number): void {
    const identity = this.identityOf(peer.uid);
    const isKnown = firstByte === BINARY || isLetter(firstByte);
    if (identity === undefined || !isKnown || this.acceptor === undefined) {
      binding.closeFd(fd);
      this.release(peer.uid);
      this.service.log('debug', 'unknown_protocol', { uid: peer.uid, first_byte: firstByte });
      return;
    }
    const onClose = (connection: Served) => this.closed(connection, peer.uid);
    try {
      this.connections.add(
        firstByte === BINARY
          ? new Connection(fd, this.service, this.buffers, identity, onClose)
          : this.http.take(fd, identity, onClose),
      );
    } catch (error) {
      binding.closeFd(fd);
      this.release(peer.uid);
      throw error;
    }
  }

  private closed(connection: Served, uid: number): void {
    this.connections.delete(connection);
    this.release(uid);
    if (this.connections.size === 0) this.whenEmpty?.();
  }

  private release(uid: number): void {
    this.admittedCount--;
    const left = (this.admitted.get(uid) ?? 0) - 1;
    if (left > 0) this.admitted.set(uid, left);
    else this.admitted.delete(uid);
  }

  private sweep(): void {
    for (const connection of this.connections) connection.sweep();
    this.refused.turn();
    this.service.failures.turn();
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
