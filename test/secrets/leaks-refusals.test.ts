import { randomBytes } from 'node:crypto';
import test from 'ava';
import { connectKms } from '../../dist/client/index.js';
import { createEmbeddedKms } from '../../dist/create.js';
import { OPERATIONS } from '../../dist/wire/frames.js';
import { Peer } from '../daemon/peer.js';
import { contents, secretsOf, silent } from './content.js';
import { Collected } from './leaks.js';
import { imported, place, served } from './served.js';

test('what is refused on the wire is not repeated, in the answer or in the log', async (t) => {
  const at = place(t);
  const content = contents();
  const [keyId] = imported(at, [randomBytes(32)]) as [string];
  const collected = new Collected();
  const daemon = await served(t, at, '--verbose');
  const plaintext = content.get('plaintext')!;
  const binary = content.get('binary plaintext')!;
  const aad = content.get('aad')!;
  const values = [
    plaintext.toString(),
    plaintext,
    binary,
    aad,
    [binary],
    [plaintext.toString()],
    { [aad.toString()]: plaintext },
    [...binary],
  ];
  const first = await Peer.connect(at.socket);
  const sealed = (await first.ask(2, keyId, plaintext, aad)).results[0] as Buffer;
  content.set('ciphertext', sealed);
  const secrets = secretsOf(at, content);
  const master = secrets.get('master')!;
  const requests: unknown[][] = [
    [3, keyId, sealed, null],
    [3, keyId, Buffer.concat([sealed, binary]), aad],
    [3, 'k_absent', sealed, aad],
    [3, null, sealed, aad],
    [5, keyId, [sealed, plaintext, binary], aad],
    [0, 7, plaintext.toString()],
    [0, 1, plaintext.toString()],
    [7, keyId, master.toString('hex')],
    [8, { new_kek_hex: master.toString('hex') }],
    [8, { new_master_key_file: at.masterKeyFile }],
    [15, binary],
    [6, `k_${master.toString('hex')}`],
    [14, keyId, plaintext.toString()],
    [12, { cursor: plaintext.toString() }],
    [12, { [plaintext.toString()]: 1 }],
    [99, plaintext],
    [plaintext, plaintext],
  ];
  // Every argument of every operation once as each kind of content.
  for (const { op, name } of OPERATIONS) {
    if (name === 'seal' || name === 'unseal') requests.push([op, plaintext]);
    for (const value of values)
      for (const args of [[value], [keyId, value], [keyId, binary, value], [value, value, value]]) requests.push([op, ...args]);
  }
  let refusals = 0;
  for (const [op, ...args] of requests) {
    const { error } = await first.ask(op as number, ...args);
    if (error === undefined) continue;
    refusals += 1;
    collected.addError(`op ${String(op)}`, error);
  }
  t.true(refusals > 400, `${refusals} refusals`);
  await first.close();
  const header = (length: number) => Buffer.from([0, length >> 16, (length >> 8) & 255, length & 255]);
  const malformed = [
    Buffer.concat([header(plaintext.length), plaintext]),
    Buffer.concat([header(binary.length), binary]),
    Buffer.concat([header(4), Buffer.from([0x92, 0xa1, 0x61, 2]), header(binary.length), binary]),
    Buffer.concat([
      header(6 + plaintext.length),
      Buffer.from([0x94, 0xd9, plaintext.length]),
      plaintext,
      Buffer.from([2, 0xc0, 0xc0]),
    ]),
    Buffer.concat([Buffer.from([0]), plaintext]),
    Buffer.concat([header(500), plaintext]),
    Buffer.concat([Buffer.from([0x16]), plaintext]),
    Buffer.from(`GET /${plaintext.toString('hex')} HTTP/1.1\r\n\r\n`),
  ];
  for (const [index, bytes] of malformed.entries()) {
    const peer = await Peer.connect(at.socket);
    peer.write(bytes);
    peer.socket.end();
    await peer.closed;
    for (const { error } of peer.answers) collected.addError(`malformed ${index}`, error);
  }
  t.is(await daemon.stop(), 0);
  collected.add('the daemon', daemon.printed.text);
  silent(
    t,
    collected,
    secrets,
    /INVALID_ARGUMENT/,
    /AUTHENTICATION_FAILED/,
    /UNSUPPORTED/,
    /malformed frame/,
    /unknown_protocol/,
  );
});

test('errors of the library repeat nothing of what they were given', async (t) => {
  const at = place(t);
  const content = contents();
  const raw = randomBytes(32);
  content.set('raw key', raw);
  const collected = new Collected();
  const { dataDir, masterKeyFile } = at;
  const kms = await createEmbeddedKms({ dataDir, masterKeyFile, exposeRawKeys: true });
  const { keyId } = await kms.wrapDek(Buffer.from(raw));
  const plaintext = content.get('plaintext')!;
  const text = plaintext.toString() as unknown as Uint8Array;
  const aad = content.get('aad')!;
  const { ciphertext } = await kms.encryptWithDek(keyId, plaintext, aad);
  content.set('ciphertext', Buffer.from(ciphertext));
  const secrets = secretsOf(at, content);
  const socket = await served(t, { ...place(t), socket: at.socket });
  const remote = await connectKms(at.socket);
  const failing = [kms, remote].flatMap((provider) => [
    () => provider.encryptWithDek(plaintext.toString(), plaintext),
    () => provider.encryptWithDek(keyId, text),
    () => provider.encryptWithDek(keyId, plaintext, text),
    () => provider.encryptWithDek('k_absent', plaintext, aad),
    () => provider.decryptWithDek(keyId, ciphertext),
    () => provider.decryptWithDek(keyId, plaintext),
    () => provider.decrypt(plaintext, aad),
    () => provider.encryptMany(keyId, text as unknown as Uint8Array[]),
    () => provider.createDekForThread(plaintext.toString()),
    () => provider.createDek(plaintext.toString()),
    () => provider.listKeys({ cursor: plaintext.toString() }),
    () => provider.listKeys({ threadId: plaintext.toString() }),
    () => provider.encryptWithDek(keyId, plaintext, aad, { deadlineMs: 0 }),
    () => provider.encryptWithDek(keyId, plaintext, aad, { signal: AbortSignal.abort() }),
  ]);
  const raws = [
    () => kms.wrapDek(raw.subarray(0, 31)),
    () => kms.wrapDek(raw.toString('hex') as unknown as Uint8Array),
    () => kms.unwrapDek(Buffer.concat([raw, raw.subarray(0, 28)])),
    () => kms.unwrapDek(raw),
    async () => kms.encryptSync(keyId, text),
    async () => kms.encryptInto(keyId, plaintext, aad, Buffer.alloc(10)),
    async () => kms.decryptSync(keyId, plaintext),
  ];
  for (const [index, call] of [...failing, ...raws].entries()) {
    const result = await Promise.resolve()
      .then(call as () => Promise<unknown>)
      .then(
        () => undefined,
        (error: unknown) => error,
      );
    if (result === undefined) t.log(`call ${index} did not fail`);
    else collected.addError(`call ${index}`, result);
  }
  await remote.close();
  await socket.stop();
  collected.addError('closed', await t.throwsAsync(async () => remote.encryptWithDek(keyId, plaintext, aad)));
  await kms.close();
  collected.addError('closed', await t.throwsAsync(kms.encryptWithDek(keyId, plaintext, aad)));
  silent(t, collected, secrets, /AUTHENTICATION_FAILED/, /INVALID_ARGUMENT/, /DEADLINE_EXCEEDED/, /KEY_NOT_FOUND/);
});
