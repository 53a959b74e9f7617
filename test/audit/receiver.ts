import { mkdtempSync, rmSync } from 'node:fs';
import { createServer as createHttp, type IncomingMessage, type RequestListener } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer as createTls } from 'node:tls';
import type { Certified } from '../daemon/authority.js';

/** A syslog server for tests: everything that it was sent, of all connections in turn. */
export class StreamReceiver {
  readonly sockets: Socket[] = [];
  received = '';

  private constructor(readonly server: Server) {}

  static async open(at: { path: string } | { port?: number; certified?: Certified }): Promise<StreamReceiver> {
    const certified = 'path' in at ? undefined : at.certified;
    const server = certified === undefined ? createServer() : createTls({ cert: certified.cert, key: certified.key });
    const receiver = new StreamReceiver(server);
    server.on(certified === undefined ? 'connection' : 'secureConnection', (socket: Socket) => {
      receiver.sockets.push(socket);
      socket.on('error', () => {});
      socket.on('data', (data) => {
        receiver.received += data.toString('latin1');
      });
    });
    server.on('tlsClientError', () => {});
    await new Promise<void>((done) => {
      if ('path' in at) server.listen(at.path, done);
      else server.listen(at.port ?? 0, '127.0.0.1', done);
    });
    return receiver;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /** The messages by their lengths; throws where these are not right. */
  counted(): string[] {
    const messages: string[] = [];
    for (let at = 0; at < this.received.length; ) {
      const [head = '', length = ''] = /^([1-9]\d*) /.exec(this.received.slice(at, at + 12)) ?? [];
      if (head === '') throw new Error(`no length at ${at}: ${this.received.slice(at, at + 40)}`);
      const from = at + head.length;
      at = from + Number(length);
      if (at > this.received.length) break;
      messages.push(this.received.slice(from, at));
    }
    return messages;
  }

  /** Ends all connections and the listener. */
  async close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    await new Promise((done) => this.server.close(done));
  }
}

export interface Post {
  type: string | undefined;
  body: string;
}

/** An HTTP server that answers with what `answer` says. */
export async function openHttp(answer: (nth: number) => number | undefined, certified?: Certified) {
  const posts: Post[] = [];
  const listener: RequestListener = (request: IncomingMessage, response) => {
    const parts: Buffer[] = [];
    request.on('data', (data) => parts.push(data));
    request.on('end', () => {
      posts.push({ type: request.headers['content-type'], body: Buffer.concat(parts).toString('latin1') });
      const status = answer(posts.length);
      if (status !== undefined) response.writeHead(status).end('noted');
      else request.socket.destroy();
    });
  };
  const server =
    certified === undefined ? createHttp(listener) : createHttps({ cert: certified.cert, key: certified.key }, listener);
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  return { posts, port: (server.address() as AddressInfo).port, close };
}

export function newFolder(): { dir: string; clear(): void } {
  const dir = mkdtempSync(join(tmpdir(), 'pkms-forward-'));
  return { dir, clear: () => rmSync(dir, { recursive: true, force: true }) };
}
