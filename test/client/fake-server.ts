import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decode, encode } from '@msgpack/msgpack';
import { Connection, type ConnectionOptions } from '../../dist/client/connection.js';
import { RemoteKms } from '../../dist/client/remote.js';
import { binding } from '../../dist/native.js';

export interface FakeRequest {
  id: number;
  op: number;
  args: unknown[];
  socket: net.Socket;
  /** Answers with results. */
  answer(...results: unknown[]): void;
  fail(code: number, message: string): void;
}

/** A frame around any MessagePack value, made by an encoder that shares nothing with the product. */
export function frameOf(message: unknown): Buffer {
  const body = encode(message);
  const header = Buffer.alloc(4);
  header.writeUInt32BE(body.length);
  return Buffer.concat([header, body]);
}

/** How many bytes the first frame in `held` has, as far as is known: its header at least. */
function sizeOf(held: Buffer): number {
  return held.length < 4 ? 4 : 4 + held.readUInt32BE(0);
}

/** A server that speaks the frames and does what a test tells it to. */
export class FakeServer {
  readonly directory = mkdtempSync(join(tmpdir(), 'kms-client-'));
  readonly path = join(this.directory, 'kms.sock');
  readonly sockets = new Set<net.Socket>();
  readonly requests: FakeRequest[] = [];
  connections = 0;
  onRequest: (request: FakeRequest) => void = (request) => echo(request);
  onConnection: (socket: net.Socket) => void = () => {};
  private server: net.Server | undefined;

  async listen(): Promise<this> {
    const server = net.createServer((socket) => this.serve(socket));
    this.server = server;
    await new Promise<void>((done) => server.listen(this.path, done));
    return this;
  }

  async stop(): Promise<void> {
    const { server } = this;
    this.server = undefined;
    for (const socket of this.sockets) socket.destroy();
    if (server !== undefined) await new Promise((done) => server.close(done));
  }

  async remove(): Promise<void> {
    await this.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** The product's connection to it; the peer's uid and any option may be told. */
  connection(options: Partial<ConnectionOptions> = {}): Connection {
    return new Connection({
      place: { path: this.path },
      trusts: (uid) => uid === 0,
      peerOf: () => ({ uid: 0 }),
      widen: binding.widenFd,
      sendNow: binding.sendNow,
      connectTimeoutMs: 60_000,
      // No call ends by it: a loaded machine is slow, and who tests deadlines gives a shorter one.
      deadlineMs: 60_000,
      reconnectMinMs: 5,
      reconnectMaxMs: 50,
      maxInFlight: 65_536,
      maxQueuedBytes: 64 * 1024 * 1024,
      ...options,
    });
  }

  client(options: Partial<ConnectionOptions> = {}): RemoteKms {
    return new RemoteKms(this.connection(options));
  }

  private serve(socket: net.Socket): void {
    this.connections++;
    this.sockets.add(socket);
    this.onConnection(socket);
    let chunks: Buffer[] = [];
    let received = 0;
    let needed = 4;
    socket.on('error', () => {});
    socket.on('close', () => this.sockets.delete(socket));
    socket.on('data', (chunk) => {
      chunks.push(chunk as Buffer);
      received += chunk.length;
      // Joined only when they hold a frame: a large one comes in thousands of chunks.
      if (received < needed) return;
      let held = Buffer.concat(chunks);
      for (needed = sizeOf(held); held.length >= needed; needed = sizeOf(held)) {
        const body = held.subarray(4, needed);
        held = held.subarray(needed);
        this.take(socket, body);
      }
      chunks = [held];
      received = held.length;
    });
  }

  private take(socket: net.Socket, body: Buffer): void {
    const [id, op, ...args] = decode(body) as [number, number, ...unknown[]];
    const request: FakeRequest = {
      id,
      op,
      args,
      socket,
      answer: (...results) => socket.write(frameOf([id, 0, ...results])),
      fail: (code, message) => socket.write(frameOf([id, code, message])),
    };
    this.requests.push(request);
    this.onRequest(request);
  }
}

/** Ops 2 to 5 with the data itself for a result; AAD must be there for the test to see it: it is put before the data. */
export function echo(request: FakeRequest): void {
  const [, data, aad] = request.args as [string | null, Uint8Array | Uint8Array[], Uint8Array | null];
  if (request.op === 2) request.answer(marked(data as Uint8Array, aad), '1');
  else if (request.op === 3) request.answer(marked(data as Uint8Array, aad));
  else if (request.op === 4 || request.op === 5) request.answer((data as Uint8Array[]).map((item) => marked(item, null)));
  else request.fail(16, 'not supported');
}

export function marked(data: Uint8Array, aad: Uint8Array | null | undefined): Uint8Array {
  return Uint8Array.from([...(aad ?? []), ...data]);
}

/** Until `condition` holds; the test's own time-out ends it otherwise. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((done) => setTimeout(done, 2));
}
