// The same service as http-server.js, as one writes it with Fastify: schemas that it compiles, no logger. Usage: fastify-server.js SOCKET
import { createCipheriv, createSecretKey, randomBytes } from 'node:crypto';
import Fastify from 'fastify';

const key = createSecretKey(randomBytes(32));

const text = { type: 'string' };
const schema = {
  body: { type: 'object', required: ['plaintext'], properties: { key_id: text, plaintext: text, aad: text } },
  // Base64 needs no escapes: `unsafe` spares the serialiser the search for them.
  response: {
    200: { type: 'object', properties: { ciphertext: { type: 'string', format: 'unsafe' }, key_version: text } },
  },
};

function encrypt(plaintext, aad) {
  const iv = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, iv);
  cipher.setAAD(aad);
  return Buffer.concat([iv, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

const server = Fastify({ logger: false, keepAliveTimeout: 600_000 });
server.post('/encrypt', { schema }, (request, reply) => {
  const { plaintext, aad = '' } = request.body;
  const ciphertext = encrypt(Buffer.from(plaintext, 'base64'), Buffer.from(aad, 'base64'));
  reply.send({ ciphertext: ciphertext.toString('base64'), key_version: '1' });
});
await server.listen({ path: process.argv[2] });
process.on('SIGTERM', () => process.exit());
