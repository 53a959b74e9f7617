// What one would write without a key service of this kind: node:http, JSON with base64, node:crypto. Usage: http-server.js SOCKET
import { createCipheriv, createSecretKey, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';

const key = createSecretKey(randomBytes(32));

function encrypt(plaintext, aad) {
  const iv = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, iv);
  cipher.setAAD(aad);
  return Buffer.concat([iv, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

function answer(text) {
  const { plaintext, aad } = JSON.parse(text);
  const ciphertext = encrypt(Buffer.from(plaintext, 'base64'), Buffer.from(aad, 'base64'));
  return JSON.stringify({ ciphertext: ciphertext.toString('base64'), key_version: '1' });
}

const server = createServer((request, response) => {
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => {
    const body = answer((chunks.length === 1 ? chunks[0] : Buffer.concat(chunks)).toString());
    response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) });
    response.end(body);
  });
});
server.keepAliveTimeout = 600_000;
server.maxRequestsPerSocket = 0;
server.listen(process.argv[2]);
process.on('SIGTERM', () => process.exit());
