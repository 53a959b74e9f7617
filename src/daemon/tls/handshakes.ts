import { constants, type X509Certificate } from 'node:crypto';
import { Socket } from 'node:net';
import { createServer, type Server, type TLSSocket, type TlsOptions } from 'node:tls';
import { binding, type Trust } from '../../native.js';
import { chainOf } from './certificates.js';
import { type Material, revocationLists } from './files.js';

/** Of TLS 1.2 only what is authenticated encryption with forward secrecy; those of 1.3 all are. RFC 9325. */
const CIPHERS = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
].join(':');
/** A session that is taken up again brings no certificate to look at; a renegotiation lets a peer make us work. */
const SECURE_OPTIONS = constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION;

function optionsOf({ certificate, key, authorities, revoked }: Material): TlsOptions {
  const lists = revocationLists(revoked);
  return {
    cert: certificate,
    key,
    // Said even where none is asked for a certificate: without it Node would trust every authority that it knows.
    ca: authorities.length > 0 ? authorities : [],
    ...(lists.length > 0 && { crl: lists }),
    minVersion: 'TLSv1.2',
    ciphers: CIPHERS,
    honorCipherOrder: true,
    secureOptions: SECURE_OPTIONS,
  };
}

function trustOf({ authorities, revoked }: Material): Trust | undefined {
  return authorities.length > 0 ? binding.openTrust(authorities, revoked) : undefined;
}

/** A connection whose handshake is done, and that has said something, which is still to be read. */
export interface Secured {
  socket: TLSSocket;
  firstByte: number;
  /** Undefined if none came, or there are no authorities. */
  certificate: X509Certificate | undefined;
  /** In DER, the certificate first; of one that is accepted. */
  chain: readonly Uint8Array[];
  /** Why the certificate is not accepted; `''` if it is, or there is none. */
  fault: string;
}

/** Undefined if nothing came of the connection. */
export type OnSecured = (secured: Secured | undefined) => void;

interface UnderWay {
  /** The secured one, once there is one. */
  socket: Socket;
  /** What its handshake began with. */
  material: Material;
  onSecured: OnSecured;
}

/** The connections of one TLS endpoint, until they have said who they are and their first byte. */
export class Handshakes {
  private readonly server: Server;
  private material: Material;
  /** What `material` says of clients; undefined where there are no authorities. */
  private trust: Trust | undefined;
  /** By both ends of the connection, which only one that lives can have: Node does not say which socket a secured one is of. */
  private readonly underWay = new Map<string, UnderWay>();

  /** `withinMs` bounds the handshake, and then the wait for the first byte. */
  constructor(
    material: Material,
    private readonly withinMs: number,
    onFailed: (why: string) => void,
  ) {
    this.material = material;
    this.trust = trustOf(material);
    this.server = createServer({
      ...optionsOf(material),
      requestCert: true,
      // Looked at by us: who comes without one may come with a token.
      rejectUnauthorized: false,
      handshakeTimeout: withinMs,
      allowHalfOpen: true,
    });
    this.server.on('secureConnection', (socket) => this.onSecure(socket));
    this.server.on('tlsClientError', (error: Error & { code?: string }, socket) => {
      onFailed(error.code ?? error.message);
      socket.destroy();
    });
  }

  /** For connections from now on. */
  replace(material: Material): void {
    const trust = trustOf(material);
    this.server.setSecureContext(optionsOf(material));
    this.material = material;
    this.trust = trust;
  }

  /** By the authorities and revocation lists of now; `''` for a chain that is trusted. */
  whyNotTrusted(chain: readonly Uint8Array[]): string {
    return this.trust === undefined ? 'no authority' : binding.whyNotTrusted(this.trust, chain);
  }

  /** Owns `fd` once it returns; throws before that if the descriptor cannot be used. `onSecured` is called once, later. */
  take(fd: number, onSecured: OnSecured): void {
    const socket = new Socket({ fd, readable: true, writable: true, allowHalfOpen: true });
    const ends = endsOf(socket);
    const one = { socket, material: this.material, onSecured };
    socket.on('close', () => this.settle(ends, one, undefined));
    const dead = this.underWay.get(ends);
    // Of what the other side has reset meanwhile bytes may still be there to be read, which are no newcomer's words.
    if (dead !== undefined) this.giveUp(ends, dead);
    this.underWay.set(ends, one);
    this.server.emit('connection', socket);
  }

  /** Ends what is under way. */
  close(): void {
    for (const { socket } of this.underWay.values()) socket.destroy();
  }

  private onSecure(socket: TLSSocket): void {
    const ends = endsOf(socket);
    const one = this.underWay.get(ends);
    if (one === undefined) {
      socket.destroy();
      return;
    }
    one.socket = socket;
    const timer = setTimeout(() => socket.destroy(), this.withinMs);
    const giveUp = () => socket.destroy();
    socket.on('error', giveUp);
    socket.on('end', giveUp);
    socket.on('close', () => clearTimeout(timer));
    socket.once('data', (bytes: Buffer) => {
      clearTimeout(timer);
      socket.off('end', giveUp);
      socket.pause();
      socket.unshift(bytes);
      this.settle(ends, one, { socket, firstByte: bytes[0]!, ...this.certified(socket, one) });
    });
  }

  private certified(socket: TLSSocket, { material }: UnderWay): Pick<Secured, 'certificate' | 'chain' | 'fault'> {
    const certificate = material.authorities.length > 0 ? socket.getPeerX509Certificate() : undefined;
    if (certificate === undefined) return { certificate, chain: [], fault: '' };
    if (!socket.authorized) return { certificate, chain: [], fault: String(socket.authorizationError) };
    const chain = chainOf(socket);
    return { certificate, chain, fault: material === this.material ? '' : this.whyNotTrusted(chain) };
  }

  private giveUp(ends: string, one: UnderWay): void {
    one.socket.destroy();
    this.settle(ends, one, undefined);
  }

  private settle(ends: string, one: UnderWay, secured: Secured | undefined): void {
    if (this.underWay.get(ends) !== one) return;
    this.underWay.delete(ends);
    one.onSecured(secured);
  }
}

function endsOf({ localAddress, localPort, remoteAddress, remotePort }: Socket): string {
  return [localAddress, localPort, remoteAddress, remotePort].join(' ');
}
