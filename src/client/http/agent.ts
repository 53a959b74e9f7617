import http from 'node:http';
import type net from 'node:net';
import type { KmsError } from '../../errors.js';
import { dial, distrust, lost, notReached, openEventOf, reasonOf, type Server, tooSlow } from '../server.js';

/** Below the 5 s after which servers of Node drop an idle connection: a request that meets that is lost, and not sent again. */
const IDLE_MS = 4_000;

/** The connections to one server: kept open, a bounded number, and none that is written to before the server is trusted. */
export class TrustingAgent extends http.Agent {
  private readonly open = new WeakSet<net.Socket>();

  constructor(
    private readonly server: Server,
    maxSockets: number,
  ) {
    super({ keepAlive: true, maxSockets, maxFreeSockets: maxSockets, timeout: IDLE_MS });
  }

  /**
   * Whoever gets the socket may write at once: Node keeps that until the socket is open. This listener was there first, and a
   * socket it destroys writes nothing.
   */
  override createConnection(): net.Socket {
    const { server } = this;
    const socket = dial(server);
    const timer = setTimeout(() => socket.destroy(tooSlow(server)), server.connectTimeoutMs);
    socket.once(openEventOf(server), () => {
      clearTimeout(timer);
      const refusal = distrust(server, socket);
      if (refusal === undefined) this.open.add(socket);
      else socket.destroy(refusal);
    });
    socket.once('close', () => clearTimeout(timer));
    return socket;
  }

  /** Why the request failed that went, or was to go, over `socket`. */
  failureOf(socket: net.Socket | null, error: Error | undefined): KmsError {
    if (socket === null) return lost(error === undefined ? 'closed' : reasonOf(error));
    if (!this.open.has(socket)) return notReached(this.server, socket, error);
    return lost(error === undefined ? 'the server closed it' : reasonOf(error));
  }
}
