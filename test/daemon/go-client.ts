import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** An answer as the Go client sees it: it looks at the status and the body, and at nothing else. */
export interface GoAnswer {
  status: number;
  body: string;
}

/**
 * Sends what the HTTP client of Go's standard library sends for ProgressDB, byte for byte, on one kept connection: sorted JSON
 * members, its own header lines in its own order, a content length, no repetition.
 */
export class GoClient {
  private received = Buffer.alloc(0);
  private wake: () => void = () => {};
  private ended = false;

  private constructor(
    private readonly socket: Socket,
    private readonly host: string,
    private readonly prefix: string,
    private readonly authorization: string | undefined,
  ) {
    socket.on('data', (bytes: Buffer) => {
      this.received = Buffer.concat([this.received, bytes]);
      this.wake();
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.ended = true;
      this.wake();
    });
  }

  static async connect(
    to: string | { host: string; port: number },
    { prefix = '', authorization }: { prefix?: string; authorization?: string } = {},
  ): Promise<GoClient> {
    const socket = typeof to === 'string' ? connect(to) : connect(to.port, to.host);
    await once(socket, 'connect');
    return new GoClient(socket, typeof to === 'string' ? 'unix' : `${to.host}:${to.port}`, prefix, authorization);
  }

  post(path: string, members: Record<string, unknown>): Promise<GoAnswer> {
    const sorted = Object.fromEntries(Object.entries(members).sort(([a], [b]) => (a < b ? -1 : 1)));
    const body = JSON.stringify(sorted);
    const length = Buffer.byteLength(body);
    return this.exchange(
      this.head('POST', path, [`Content-Length: ${length}`, ...this.auth(), 'Content-Type: application/json']) + body,
    );
  }

  get(path: string): Promise<GoAnswer> {
    return this.exchange(this.head('GET', path, this.auth()));
  }

  close(): void {
    this.socket.destroy();
  }

  private auth(): string[] {
    return this.authorization === undefined ? [] : [`Authorization: ${this.authorization}`];
  }

  private head(method: string, path: string, lines: string[]): string {
    const all = [
      `${method} ${this.prefix}${path} HTTP/1.1`,
      `Host: ${this.host}`,
      'User-Agent: Go-http-client/1.1',
      ...lines,
      'Accept-Encoding: gzip',
    ];
    return `${all.join('\r\n')}\r\n\r\n`;
  }

  private async exchange(bytes: string): Promise<GoAnswer> {
    this.socket.write(bytes);
    for (;;) {
      const answer = this.take();
      if (answer !== undefined) return answer;
      if (this.ended) throw new Error('the connection was closed before an answer');
      await new Promise<void>((wake) => (this.wake = wake));
    }
  }

  private take(): GoAnswer | undefined {
    const text = this.received.toString('latin1');
    const end = text.indexOf('\r\n\r\n');
    if (end < 0) return undefined;
    const length = /\r\ncontent-length: (\d+)/i.exec(text.slice(0, end))?.[1];
    if (length === undefined) throw new Error(`an answer without a length: ${text.slice(0, end)}`);
    const whole = end + 4 + Number(length);
    if (this.received.length < whole) return undefined;
    const body = this.received.subarray(end + 4, whole).toString('utf8');
    this.received = this.received.subarray(whole);
    return { status: Number(text.slice(9, 12)), body };
  }
}
