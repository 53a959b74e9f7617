import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { Op } from '../../dist/wire/frames.js';
import { type Answer, decodeAnswer, encodeRequest } from '../../dist/wire/messages.js';

/** A client of docs/PROTOCOL.md that hides nothing: it sees every answer, in order, and the end of the stream. */
export class Peer {
  readonly answers: Answer[] = [];
  readonly closed: Promise<void>;
  private chunks: Buffer[] = [];
  private received = 0;
  private needed = 4;
  private nextId = 1;
  private readonly waiting = new Map<number, (answer: Answer) => void>();
  private readonly losing = new Map<number, (error: Error) => void>();

  private constructor(readonly socket: Socket) {
    socket.on('data', (bytes) => this.take(bytes));
    socket.on('error', () => {});
    this.closed = new Promise((resolve) => {
      socket.on('close', () => {
        for (const lose of this.losing.values()) lose(new Error('the connection was closed'));
        resolve();
      });
    });
  }

  /** By the path of a socket, or a port of 127.0.0.1. */
  static async connect(to: string | number): Promise<Peer> {
    const socket = typeof to === 'string' ? connect(to) : connect(to, '127.0.0.1');
    await once(socket, 'connect');
    return new Peer(socket);
  }

  /** On a socket that is open. */
  static over(socket: Socket): Peer {
    return new Peer(socket);
  }

  /** A frame and the promise of its answer; `write` sends it. */
  prepare(op: Op | number, args: unknown[]): { frame: Buffer; answer: Promise<Answer> } {
    const id = this.nextId++;
    const answer = new Promise<Answer>((resolve, reject) => {
      this.waiting.set(id, resolve);
      this.losing.set(id, reject);
    });
    answer.catch(() => {});
    return { frame: encodeRequest(id, op, args), answer };
  }

  write(...frames: Uint8Array[]): void {
    this.socket.write(Buffer.concat(frames));
  }

  ask(op: Op | number, ...args: unknown[]): Promise<Answer> {
    const { frame, answer } = this.prepare(op, args);
    this.write(frame);
    return answer;
  }

  /** The code of the error that the operation is refused with, or what it gave. */
  async outcome(op: Op | number, ...args: unknown[]): Promise<string> {
    return (await this.ask(op, ...args)).error?.code ?? 'OK';
  }

  async close(): Promise<void> {
    this.socket.destroy();
    await this.closed;
  }

  private take(bytes: Buffer): void {
    this.chunks.push(bytes);
    this.received += bytes.length;
    if (this.received < this.needed) return;
    const all = Buffer.concat(this.chunks);
    let at = 0;
    for (;;) {
      const size = all.length - at < 4 ? 4 : 4 + all.readUInt32BE(at);
      if (at + size > all.length || all.length - at < 4) {
        this.needed = size;
        break;
      }
      this.settle(decodeAnswer(all.subarray(at + 4, at + size)));
      at += size;
    }
    this.chunks = [all.subarray(at)];
    this.received = all.length - at;
  }

  private settle(answer: Answer): void {
    this.answers.push(answer);
    this.waiting.get(answer.id)?.(answer);
    this.waiting.delete(answer.id);
    this.losing.delete(answer.id);
  }
}
