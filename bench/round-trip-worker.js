// One client process with one encrypt after another, each awaited. Answers with the rate and percentiles of the latency.
// Arguments: socket, key id, plaintext bytes, AAD bytes, path of the client library.
import { randomBytes } from 'node:crypto';
import { percentilesOf } from './percentiles.js';
import { answerMessages } from './processes.js';

const MAX_LATENCIES = 2 ** 21;

const [socket, keyId, sizeText, aadText, library] = process.argv.slice(2);
const { connectKms } = await import(library);
const kms = await connectKms(socket);
const plaintext = randomBytes(Number(sizeText));
const aad = randomBytes(Number(aadText));
const ciphertextBytes = plaintext.length + 28;

async function roundTrips(seconds) {
  const latencies = new Uint32Array(MAX_LATENCIES);
  const begun = performance.now();
  let count = 0;
  for (let at = begun; at < begun + seconds * 1000 && count < MAX_LATENCIES; count++) {
    const { ciphertext } = await kms.encryptWithDek(keyId, plaintext, aad);
    if (ciphertext.length !== ciphertextBytes) throw new Error('not a whole ciphertext');
    const answered = performance.now();
    latencies[count] = Math.max(1, Math.round((answered - at) * 1e6));
    at = answered;
  }
  return { perSecond: (count * 1000) / (performance.now() - begun), ...percentilesOf(latencies.subarray(0, count), 1) };
}

answerMessages(async ({ warm, seconds }) => {
  await roundTrips(warm);
  return roundTrips(seconds);
});
