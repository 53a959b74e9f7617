import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { askHttp } from '../daemon/http-peer.js';
import { contents, secretsOf, silent } from './content.js';
import { Collected, Commands } from './leaks.js';
import { readMasterKey } from './opened-store.js';
import { place, served } from './served.js';

test('every form in which a secret is printed is found', (t) => {
  // The same at each run: cut where they may be, some bytes are no text at all.
  const secret = createHash('sha512').update('secret').digest().subarray(0, 60);
  const text = Buffer.from('forty-two characters of ordinary plaintext');
  const secrets = new Map([
    ['secret', secret],
    ['text', text],
  ]);
  const planted: Array<[string, Buffer | string]> = [
    ['bytes', Buffer.concat([Buffer.from('x'), secret])],
    ['bytes', Buffer.concat([Buffer.from('x'), secret.subarray(0, 20)])],
    ['last bytes', secret.subarray(-20)],
    ['hex', secret.toString('hex')],
    ['hex', secret.subarray(0, 16).toString('hex')],
    ['upper hex', secret.toString('hex').toUpperCase()],
    ['base64', secret.toString('base64')],
    ['base64url', secret.toString('base64url')],
    [
      'inspected buffer',
      String(new Error('x', { cause: secret }).cause === secret && `<Buffer ${secret.toString('hex').match(/../g)?.join(' ')}>`),
    ],
    ['numbers', JSON.stringify(secret)],
    ['numbers', JSON.stringify(new Uint8Array(secret))],
    ['numbers', `Uint8Array(60) [\n  ${[...secret].join(',\n   ')} ]`],
    ['utf-8 text', secret.toString('utf8')],
    ['latin1 text', secret.toString('latin1')],
  ];
  for (const [form, said] of planted) {
    const collected = new Collected();
    collected.add('somebody', said);
    t.true(collected.leaks(secrets).includes(`somebody: secret as ${form}`), form);
  }
  const errors = new Collected();
  errors.addError('an error', new Error('failed', { cause: { plaintext: secret } }));
  errors.addError('another', new Error(`cannot encrypt ${text}`));
  t.true(errors.leaks(secrets).includes('an error: secret as inspected buffer'));
  t.true(errors.leaks(secrets).includes('another: text as bytes'));
  const innocent = new Collected();
  innocent.add('somebody', randomBytes(10_000).toString('hex'));
  t.deepEqual(innocent.leaks(secrets), []);
});

test('what a program run by the harness prints is searched, what it was asked for is not', async (t) => {
  const at = place(t);
  const key = readMasterKey(at.masterKeyFile);
  const collected = new Collected();
  const commands = new Commands(at, collected);
  // A defect planted into the product's process: it prints its key file.
  const defect = join(at.directory, 'defect.cjs');
  writeFileSync(defect, `process.stderr.write(require('node:fs').readFileSync(${JSON.stringify(at.masterKeyFile)}))`);
  await commands.run(['--version'], { nodeOptions: ['--require', defect] });
  t.true(collected.leaks(new Map([['master', key]])).includes('progressdb-kms --version: master as hex'));
});

test('the commands and the daemon’s log repeat no key, no wrapped key and no content', async (t) => {
  const at = place(t);
  const content = contents();
  const plaintext = Buffer.concat([content.get('plaintext')!, content.get('binary plaintext')!]);
  const collected = new Collected();
  const commands = new Commands(at, collected);
  const file = (name: string, bytes: Buffer): string => {
    writeFileSync(join(at.directory, name), bytes);
    return name;
  };
  const store = ['--data-dir', at.dataDir, '--master-key-file', at.masterKeyFile];
  t.is((await commands.run(['init', ...store])).exit, 0);
  t.not((await commands.run(['init', ...store])).exit, 0);
  const daemon = await served(t, at, '--verbose');

  const created = (await commands.run(['create-dek', '--thread', 'thread', '--verbose'])).stdout.toString().trim();
  await commands.both('create-dek', '--label', 'label');
  const { stdout: sealed } = await commands.run(['encrypt', '--verbose'], { stdin: plaintext, asksForData: true });
  const sealedFile = file('sealed', sealed);
  const { stdout: opened } = await commands.run(['decrypt', sealedFile], { asksForData: true });
  t.deepEqual(opened, plaintext);
  const plainFile = file('plain', Buffer.concat(Array.from({ length: 4_000 }, () => plaintext)));
  t.is((await commands.run(['encrypt', plainFile, '-o', 'large', '--key', created, '--verbose'])).exit, 0);
  t.is((await commands.run(['decrypt', 'large', '-o', 'large.plain', '--verbose'])).exit, 0);
  content.set('ciphertext', sealed);
  content.set('large ciphertext', readFileSync(join(at.directory, 'large')).subarray(0, 200));

  const tampered = file('tampered', Buffer.from(sealed.map((byte, index) => (index === 40 ? byte ^ 1 : byte))));
  const cut = file('cut', readFileSync(join(at.directory, 'large')).subarray(0, 300_000));
  for (const name of [tampered, cut, plainFile, 'absent']) {
    t.true((await commands.run(['decrypt', name, '--verbose'], { asksForData: true })).exit !== 0, name);
  }
  t.not((await commands.run(['decrypt', '--json'], { stdin: plaintext, asksForData: true })).exit, 0);
  t.not((await commands.run(['encrypt', plainFile, '-o', '.'])).exit, 0);
  t.not((await commands.run(['encrypt', plainFile, '--key', 'k_absent', '-o', 'x'])).exit, 0);

  for (const command of [['status'], ['doctor', ...store], ['keys', 'list'], ['keys', 'show', created]])
    await commands.both(...command);
  for (const verb of ['disable', 'enable', 'disable']) t.is((await commands.run(['keys', verb, created, '--json'])).exit, 0);
  t.not((await commands.run(['encrypt', plainFile, '--key', created, '-o', 'x'])).exit, 0);
  t.not((await commands.run(['decrypt', 'large', '-o', 'x'])).exit, 0);
  const secrets = secretsOf(at, content);
  await commands.run(['keys', 'destroy', created]);
  await commands.run(['keys', 'destroy', created, '--yes']);
  for (const args of [
    ['keys', 'show', 'k_absent'],
    ['keys', 'enable', created],
    ['no-such-command'],
    ['keys'],
    ['--help'],
    ['encrypt', '--no'],
  ]) {
    await commands.both(...args);
  }
  t.is((await commands.run(['seal', '--verbose'])).exit, 0);
  for (const args of [['encrypt', plainFile, '-o', 'x'], ['keys', 'list'], ['status']]) await commands.both(...args);
  t.is((await commands.run(['unseal', '--json'])).exit, 0);
  t.not((await commands.run(['serve', '--socket', at.socket, ...store])).exit, 0, 'the place is taken');
  collected.add('the metrics', (await askHttp(at.socket, { path: '/metrics' })).text);
  t.is(await daemon.stop(), 0);
  for (const args of [['keys', 'list', ...store], ['status', ...store], ['doctor', ...store], ['status']])
    await commands.both(...args);
  collected.add('the daemon', daemon.printed.text);
  silent(
    t,
    collected,
    secrets,
    /"event":"sealed"/,
    /"event":"request",.*"operation":"create_dek_for_thread"/,
    /progressdb_kms_requests_total\{.*operation="encrypt",outcome="ok"\} [1-9]/,
    /decryption failed/,
    /the key is destroyed/,
    new RegExp(at.marker),
    /KEY_DISABLED|disabled/,
  );
});
