import net, { type AddressInfo } from 'node:net';
import tls from 'node:tls';

/** Takes TCP or TLS on loopback to a Unix socket, byte for byte. */
export class Relay {
  private readonly sockets = new Set<net.Socket>();

  private constructor(private readonly server: net.Server) {}

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  static async to(path: string, identity?: tls.TlsOptions): Promise<Relay> {
    const take = (socket: net.Socket) => relay.take(socket, path);
    const server = identity === undefined ? net.createServer(take) : tls.createServer(identity, take);
    const relay = new Relay(server);
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    return relay;
  }

  /** Every connection breaks; new ones are taken. */
  cut(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  async stop(): Promise<void> {
    this.cut();
    await new Promise((done) => this.server.close(done));
  }

  private take(socket: net.Socket, path: string): void {
    const inner = net.connect(path);
    for (const [from, to] of [
      [socket, inner],
      [inner, socket],
    ] as const) {
      this.sockets.add(from);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        this.sockets.delete(from);
        to.destroy();
      });
      from.pipe(to);
    }
  }
}
