import { chmodSync, chownSync } from 'node:fs';
import { KmsError } from '../errors.js';
import type { Acceptor, AcceptorEvents } from '../listening.js';
import { binding } from '../native.js';
import { written } from './config/endpoint.js';
import type { HostPort } from './config.js';
import { isLoopback } from './identity.js';
import type { Service } from './operations.js';
import { type Expiries, expiriesOf, type Material } from './tls/files.js';
import { Handshakes } from './tls/handshakes.js';

/** One listening socket. */
export interface Door {
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

/** The listening sockets, and the TLS that is spoken on some of them. */
export class Doors {
  private acceptors: Acceptor[] = [];
  private readonly handshakes: Handshakes[] = [];
  /** Looked up once: a scrape must not read long revocation lists again. */
  private ends: Partial<Expiries>;

  constructor(
    private readonly service: Service,
    /** For the endpoints with TLS; it is not needed without. */
    private material: Material | undefined,
    /** What is done with those who come to a door. */
    private readonly eventsOf: (door: Door) => AcceptorEvents,
  ) {
    this.ends = material === undefined ? {} : expiriesOf(material);
  }

  get areOpen(): boolean {
    return this.acceptors.length > 0;
  }

  expiries(): Partial<Expiries> {
    return this.ends;
  }

  /** The ports of the endpoints, in their order. Throws CONFLICT or what the system says if one cannot be had; none is left open then. */
  open({ inherited, socket, socketGroup, endpoints }: Address): number[] {
    try {
      for (const fd of inherited) this.adopt(fd);
      if (socket !== undefined && inherited.length === 0) this.openSocket(socket, socketGroup);
      return endpoints.map((endpoint) => this.openEndpoint(endpoint));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** For connections from now on. Where a new configuration has no TLS, what is open goes on with what it has until a restart. */
  replace(material: Material | undefined): void {
    if (material === undefined) return;
    for (const one of this.handshakes) one.replace(material);
    this.material = material;
    this.ends = expiriesOf(material);
  }

  close(): void {
    for (const acceptor of this.acceptors) acceptor.close();
    for (const one of this.handshakes) one.close();
    this.acceptors = [];
  }

  private openSocket(socket: string, group: number | undefined): void {
    const events = this.eventsOf({ hosts: undefined, handshakes: undefined });
    this.acceptors.push(binding.listenUnix(socket, 0o600, this.service.timeouts.firstByteMs, events));
    if (group !== undefined) openTo(socket, group);
  }

  /** The port that it has. */
  private openEndpoint(endpoint: HostPort): number {
    const { host, port, isTls } = endpoint;
    if (!isLoopback(host) && !this.service.authentication.knowsStrangers) {
      const remedy = 'list certificates, or make a token first';
      throw new KmsError('INVALID_ARGUMENT', `${written(endpoint)}: nobody beyond this machine is known: ${remedy}`);
    }
    const door: Door = { hosts: undefined, handshakes: isTls === true ? this.newHandshakes() : undefined };
    const acceptor = binding.listenTcp(host, port, this.service.timeouts.firstByteMs, this.eventsOf(door));
    this.acceptors.push(acceptor);
    if (!isTls) door.hosts = hostsOf(host, acceptor.port);
    return acceptor.port;
  }

  private adopt(fd: number): void {
    const door: Door = { hosts: undefined, handshakes: undefined };
    const acceptor = binding.listenFd(fd, this.service.timeouts.firstByteMs, this.eventsOf(door));
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
