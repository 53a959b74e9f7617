// One client process: keeps a number of encrypts in flight, a promise each, for the seconds it is asked.
// Arguments: 'kms' or 'http', socket, key id, plaintext bytes, AAD bytes, in flight, path of the client library (for 'kms').
import { randomBytes } from 'node:crypto';
import { Agent, request } from 'node:http';
import { answerMessages } from './processes.js';

const [kind, socket, keyId, sizeText, aadText, inFlightText, library] = process.argv.slice(2);
const IN_FLIGHT = Number(inFlightText);
const CIPHERTEXT_BYTES = Number(sizeText) + 28;
const plaintext = randomBytes(Number(sizeText));
const aad = randomBytes(Number(aadText));

async function kmsEncrypt() {
  const { connectKms } = await import(library);
  const kms = await connectKms(socket);
  return () => kms.encryptWithDek(keyId, plaintext, aad);
}

function httpEncrypt() {
  const agent = new Agent({ keepAlive: true, maxSockets: IN_FLIGHT });
  const options = { socketPath: socket, agent, method: 'POST', path: '/encrypt' };
  return () =>
    new Promise((resolve, reject) => {
      const body = JSON.stringify({ key_id: keyId, plaintext: plaintext.toString('base64'), aad: aad.toString('base64') });
      const headers = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) };
      const outgoing = request({ ...options, headers }, (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk) => {
          text += chunk;
        });
        response.on('end', () => {
          if (response.statusCode === 200) resolve({ ciphertext: Buffer.from(JSON.parse(text).ciphertext, 'base64') });
          else reject(new Error(`HTTP ${response.statusCode}`));
        });
      });
      outgoing.on('error', reject);
      outgoing.end(body);
    });
}

const encrypt = kind === 'kms' ? await kmsEncrypt() : httpEncrypt();

/** Lanes that each start the next encrypt when the one before has settled. */
async function keepInFlight(seconds) {
  let running = true;
  let operations = 0;
  const lane = async () => {
    while (running) {
      const { ciphertext } = await encrypt();
      if (ciphertext.length !== CIPHERTEXT_BYTES) throw new Error('not a whole ciphertext');
      operations++;
    }
  };
  const start = process.hrtime.bigint();
  const cpu = process.cpuUsage();
  setTimeout(() => {
    running = false;
  }, seconds * 1000);
  await Promise.all(Array.from({ length: IN_FLIGHT }, lane));
  const took = Number(process.hrtime.bigint() - start) / 1e9;
  const { user, system } = process.cpuUsage(cpu);
  return { perSecond: operations / took, clientCpuNs: ((user + system) * 1000) / operations };
}

answerMessages(async ({ warm, seconds }) => {
  await keepInFlight(warm);
  return keepInFlight(seconds);
});
