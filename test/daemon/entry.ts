import { once } from 'node:events';
import { type ClientRequest, request as requestPlain } from 'node:http';
import { request as requestSecured } from 'node:https';
import { connect as connectTls } from 'node:tls';
import type { Certified } from './authority.js';
import { Peer } from './peer.js';

/** How a caller comes in: where to, and what it brings. */
export interface Entry {
  to: string | number;
  /** Authorities of the server; TLS is spoken where they are given. */
  ca?: string;
  certified?: Certified;
  token?: string;
}

function tlsOf({ ca, certified }: Entry) {
  return { ca, ...(certified && { cert: certified.cert, key: certified.key }) };
}

export async function binaryPeer(entry: Entry): Promise<Peer> {
  if (entry.ca === undefined) return Peer.connect(entry.to);
  const socket = connectTls({ host: '127.0.0.1', port: entry.to as number, ...tlsOf(entry) });
  await once(socket, 'secureConnect');
  return Peer.over(socket);
}

/** What an operation comes to: `OK`, the code of its error, or `CLOSED`. */
export async function binaryOutcome(peer: Peer, op: number, args: unknown[]): Promise<string> {
  return await Promise.race([
    peer.outcome(op, ...args).catch(() => 'CLOSED'),
    peer.closed.then(() => peer.answers.find(({ id }) => id === 0)?.error?.code ?? 'CLOSED'),
  ]);
}

/** Sends the head of a request, and its body only where `body` is given, although the head announces one. */
export function httpOutcome(entry: Entry, method: string, path: string, body?: unknown): Promise<string> {
  const { to, token } = entry;
  const text = body === undefined ? undefined : JSON.stringify(body);
  const options = {
    ...(typeof to === 'string' ? { socketPath: to } : { host: '127.0.0.1', port: to }),
    method,
    path,
    agent: false as const,
    headers: {
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
      ...(method !== 'GET' && { 'content-length': text === undefined ? 1_000 : Buffer.byteLength(text) }),
    },
  };
  return new Promise((resolve) => {
    const asked: ClientRequest = entry.ca === undefined ? requestPlain(options) : requestSecured({ ...options, ...tlsOf(entry) });
    asked.on('error', () => resolve('CLOSED'));
    asked.on('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', () => {});
      response.on('end', () => {
        asked.destroy();
        const code = /^\{"error":\{"code":"(\w+)"/.exec(Buffer.concat(chunks).toString())?.[1];
        resolve(response.statusCode === 200 ? 'OK' : `${response.statusCode} ${code}`);
      });
    });
    if (text === undefined && method !== 'GET') asked.flushHeaders();
    else asked.end(text);
  });
}
