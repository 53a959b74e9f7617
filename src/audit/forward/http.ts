import type { IncomingMessage, RequestOptions } from 'node:http';
import { FORWARD_STALL_MS } from '../../limits.js';
import { Refused, type Sink } from './sink.js';

const LINE_FEED = Buffer.from('\n');
/** Answers to a batch that say nothing of the batch: a token that is missing, a busy server, a path that is not there yet. */
const OF_THE_SERVER = new Set([401, 403, 404, 407, 408, 425, 429]);

/** POST of lines, each ended by a line feed. What is answered with 2xx is out; what breaks before that is sent again, perhaps twice. */
export class HttpSink implements Sink {
  readonly #send: (body: Buffer) => Promise<number>;
  readonly #close: () => void;

  private constructor(send: (body: Buffer) => Promise<number>, close: () => void) {
    this.#send = send;
    this.#close = close;
  }

  static async open(url: string, authorities: Buffer | undefined): Promise<HttpSink> {
    const isSecured = url.startsWith('https:');
    const { request, Agent } = isSecured ? await import('node:https') : await import('node:http');
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const secured = isSecured && { minVersion: 'TLSv1.2', rejectUnauthorized: true, ...(authorities && { ca: authorities }) };
    const send = (body: Buffer) =>
      new Promise<number>((done, fail) => {
        const options: RequestOptions = {
          method: 'POST',
          agent,
          headers: { 'content-type': 'application/x-ndjson', 'content-length': body.length },
          signal: AbortSignal.timeout(FORWARD_STALL_MS),
          ...secured,
        };
        const asked = request(url, options, (answer: IncomingMessage) => {
          // Read and forgotten, so that the connection can be used again.
          answer.resume();
          answer.on('error', fail);
          answer.on('end', () => done(answer.statusCode ?? 0));
        });
        asked.on('error', fail);
        asked.end(body);
      });
    return new HttpSink(send, () => agent.destroy());
  }

  async send(lines: readonly Buffer[]): Promise<number> {
    const status = await this.#send(Buffer.concat(lines.flatMap((line) => [line, LINE_FEED])));
    if (status >= 200 && status < 300) return lines.length;
    const said = `the receiver answered ${status}`;
    throw status >= 400 && status < 500 && !OF_THE_SERVER.has(status) ? new Refused(said) : new Error(said);
  }

  close(): void {
    this.#close();
  }
}
