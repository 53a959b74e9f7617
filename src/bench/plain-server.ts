import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { indexOf, open, plainKeys, seal } from './plain-crypto.js';
import { answerQuestions } from './worker-side.js';

interface Asked {
  key_id: string;
  plaintext?: string;
  ciphertext?: string;
  aad: string;
}

export interface StartPlainServer {
  do: 'listen';
  socket: string;
  keys: number;
}

/** What one would write without a key service: node:http, JSON with base64, node:crypto. */
export function plainServer(): Promise<void> {
  return answerQuestions<StartPlainServer>(async ({ socket, keys }) => {
    const keyring = plainKeys(keys);
    const answer = (path: string, text: string) => {
      const { key_id, plaintext, ciphertext, aad } = JSON.parse(text) as Asked;
      const key = keyring[indexOf(key_id)];
      if (key === undefined) throw new Error('no such key');
      const bound = Buffer.from(aad, 'base64');
      if (path === '/decrypt') {
        return JSON.stringify({ plaintext: open(key, Buffer.from(ciphertext ?? '', 'base64'), bound).toString('base64') });
      }
      const sealed = seal(key, Buffer.from(plaintext ?? '', 'base64'), bound);
      return JSON.stringify({ ciphertext: sealed.toString('base64'), key_version: '1' });
    };
    const server = createServer((request, response) => serve(request, response, answer));
    server.keepAliveTimeout = 600_000;
    server.maxRequestsPerSocket = 0;
    server.listen(socket);
    await once(server, 'listening');
    return {};
  });
}

function serve(request: IncomingMessage, response: ServerResponse, answer: (path: string, text: string) => string): void {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    let status = 200;
    let body: string;
    try {
      body = answer(request.url ?? '', Buffer.concat(chunks).toString());
    } catch {
      status = 400;
      body = '{}';
    }
    response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) });
    response.end(body);
  });
}
