// A process that opens a store, decrypts one message and leaves. Argument: JSON of {product, options, sealed, index, started}, the
// last in milliseconds since the epoch, by the clock of whoever started it. Prints seconds.
const { product, options, sealed, index, started } = JSON.parse(process.argv[2]);
const { AAD, PLAINTEXT_BYTES, plaintextOf, SealedFile } = await import('./sealed-file.js');
const { keyId, sealed: message } = new SealedFile(sealed).at(index);

const { createEmbeddedKms } = await import(product);
const begun = performance.now();
const kms = await createEmbeddedKms(options);
const opened = performance.now();
const plaintext = await kms.decryptWithDek(keyId, message, AAD);
const decrypted = performance.now();
if (!plaintextOf(index, Buffer.alloc(PLAINTEXT_BYTES)).equals(plaintext)) throw new Error('not what was encrypted');
const whole = performance.timeOrigin + decrypted - started;
await kms.close();
const closed = performance.now();
const times = { open: opened - begun, toDecrypt: decrypted - begun, fromSpawn: whole, close: closed - decrypted };
process.stdout.write(JSON.stringify(Object.fromEntries(Object.entries(times).map(([name, ms]) => [name, ms / 1000]))));
