import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { type ConnectOptions, connectKms, type KmsClient } from '../../dist/client/index.js';

export interface Asked {
  method: string;
  url: string;
  headers: http.IncomingHttpHeaders;
  body: string;
}

/** A server that answers HTTP as a test tells it to; a question after its health it answers always. */
export class FakeHttp {
  readonly asked: Asked[] = [];
  connections = 0;
  onRequest: (response: http.ServerResponse, asked: Asked) => void = (response) => response.end('{}');
  readonly sockets = new Set<net.Socket>();
  private readonly server = http.createServer((request, response) => this.take(request, response));

  static async on(t: ExecutionContext, path?: string): Promise<FakeHttp> {
    const fake = new FakeHttp();
    fake.server.on('connection', (socket) => {
      fake.connections++;
      fake.sockets.add(socket);
      socket.on('close', () => fake.sockets.delete(socket));
    });
    await new Promise<void>((done) => {
      if (path === undefined) fake.server.listen(0, '127.0.0.1', done);
      else fake.server.listen(path, done);
    });
    t.teardown(async () => {
      for (const socket of fake.sockets) socket.destroy();
      await new Promise((done) => fake.server.close(done));
    });
    return fake;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  async client(t: ExecutionContext, options: Omit<ConnectOptions, 'socket'> = {}): Promise<KmsClient> {
    const kms = await connectKms({ endpoint: `127.0.0.1:${this.port}`, ...options });
    t.teardown(() => kms.close());
    return kms;
  }

  private take(request: http.IncomingMessage, response: http.ServerResponse): void {
    const chunks: Buffer[] = [];
    request.on('error', () => {});
    response.on('error', () => {});
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const { method, url, headers } = request;
      if (url!.endsWith('/healthz')) {
        response.end('ok');
        return;
      }
      const asked = { method: method!, url: url!, headers, body: Buffer.concat(chunks).toString() };
      this.asked.push(asked);
      this.onRequest(response, asked);
    });
  }
}

/** A listener that counts what it is sent and says what it is told to. */
export async function listener(t: ExecutionContext, onData: (socket: net.Socket, chunk: Buffer) => void) {
  const seen = { connections: 0, bytes: 0 };
  const sockets = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    seen.connections++;
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      seen.bytes += chunk.length;
      onData(socket, chunk);
    });
  });
  const directory = mkdtempSync(join(tmpdir(), 'kms-http-'));
  const path = join(directory, 'kms.sock');
  await new Promise<void>((done) => server.listen(path, done));
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((done) => server.close(done));
    rmSync(directory, { recursive: true, force: true });
  });
  return { seen, path, sockets };
}
