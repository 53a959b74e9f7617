import { Agent, request } from 'node:http';
import { KmsError } from '../errors.js';
import type { Sealer } from './sealer.js';

/** A client of `plainServer`, as one would write it: a keep-alive agent of node:http, JSON and base64. */
export function plainClient(socketPath: string, maxSockets: number): Sealer {
  const agent = new Agent({ keepAlive: true, maxSockets, maxFreeSockets: maxSockets });
  const post = (path: string, about: object) =>
    new Promise<Record<string, string>>((done, fail) => {
      const body = JSON.stringify(about);
      const headers = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) };
      const outgoing = request({ socketPath, agent, method: 'POST', path, headers }, (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('end', () => {
          if (response.statusCode === 200) done(JSON.parse(text));
          else fail(new KmsError('INTERNAL', `HTTP ${response.statusCode}`));
        });
      });
      outgoing.on('error', fail);
      outgoing.end(body);
    });
  const base64 = (bytes: Uint8Array = new Uint8Array(0)) =>
    Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64');
  return {
    async encryptWithDek(keyId, plaintext, aad) {
      const { ciphertext, key_version } = await post('/encrypt', {
        key_id: keyId,
        plaintext: base64(plaintext),
        aad: base64(aad),
      });
      return { ciphertext: Buffer.from(ciphertext as string, 'base64'), keyVersion: key_version as string };
    },
    async decryptWithDek(keyId, ciphertext, aad) {
      const { plaintext } = await post('/decrypt', { key_id: keyId, ciphertext: base64(ciphertext), aad: base64(aad) });
      return Buffer.from(plaintext as string, 'base64');
    },
    close: async () => agent.destroy(),
  };
}
