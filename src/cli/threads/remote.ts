import { request as overHttp, type RequestOptions } from 'node:http';
import { request as overTls } from 'node:https';
import { resolve } from 'node:path';
import { type Address, hostHeaderOf, isInTheClear, nameOf, parseAddress } from '../../client/address.js';
import { MAX_HTTP_ANSWER_BYTES } from '../../limits.js';
import { Failure, reasonOf } from '../failure.js';
import type { Answer, ThreadsAccess } from './access.js';
import { readAdminToken } from './admin-token.js';
import { refusalIn } from './refusal.js';

/** A `threads serve` over HTTP. */
export class RemoteThreads implements ThreadsAccess {
  readonly isOffline = false;
  readonly #address: Address;
  readonly #token: string | undefined;

  /** Throws USAGE for an endpoint that is none, or where the token would be read on its way. */
  constructor(endpoint: string, tokenFile: string | undefined) {
    const isPath = !/^[a-z][a-z0-9+.-]*:|:\d+$/i.test(endpoint);
    this.#address = parseAddress(isPath ? resolve(endpoint) : endpoint);
    const { place, protocol, userinfo } = this.#address;
    if ((!('path' in place) && protocol !== 'http') || userinfo !== undefined) {
      throw new Failure('USAGE', '--endpoint must be host:port, http:// or https:// without a user, or the path of a socket');
    }
    this.#token = tokenFile === undefined ? undefined : readAdminToken(tokenFile);
    if (this.#token !== undefined && isInTheClear(place)) {
      throw new Failure('USAGE', 'the token would be sent in the clear: beyond loopback, an https:// endpoint is needed');
    }
  }

  get where(): string {
    return nameOf(this.#address.place);
  }

  async ask(method: 'GET' | 'POST' | 'DELETE', path: string, body?: object): Promise<Answer> {
    const { status, text } = await this.#send(method, path, body === undefined ? undefined : JSON.stringify(body));
    if (status < 200 || status > 299) throw refusalIn(text, status);
    try {
      return JSON.parse(text) as Answer;
    } catch {
      throw refusalIn(text, status);
    }
  }

  async close(): Promise<void> {}

  #send(method: string, path: string, body: string | undefined): Promise<{ status: number; text: string }> {
    const { place, prefix } = this.#address;
    const options: RequestOptions = {
      method,
      path: prefix + path,
      ...('path' in place ? { socketPath: place.path } : { host: place.host, port: place.port }),
      headers: {
        host: hostHeaderOf(place),
        ...(this.#token !== undefined && { authorization: `Bearer ${this.#token}` }),
        ...(body !== undefined && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
      },
    };
    return new Promise((done, fail) => {
      const lost = (error: Error) =>
        fail(new Failure('STORE_UNAVAILABLE', `no server answers at ${this.where}: ${reasonOf(error)}`));
      const send = 'isTls' in place && place.isTls ? overTls : overHttp;
      const request = send(options, (response) => {
        const chunks: Buffer[] = [];
        let length = 0;
        response.on('data', (chunk: Buffer) => {
          length += chunk.length;
          if (length > MAX_HTTP_ANSWER_BYTES) request.destroy(new Error('its answer is too long'));
          else chunks.push(chunk);
        });
        response.on('end', () => done({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }));
        response.on('error', lost);
      });
      request.on('error', lost);
      request.end(body);
    });
  }
}
