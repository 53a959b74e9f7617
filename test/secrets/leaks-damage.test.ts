import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { connectKms } from '../../dist/client/index.js';
import { createEmbeddedKms } from '../../dist/create.js';
import { KEYRING_DAMAGES, withKeyring, withRecords } from './broken-stores.js';
import { secretsOf, silent } from './content.js';
import { Collected, Commands } from './leaks.js';
import { imported, place, served } from './served.js';

test('a start with a wrong or malformed key, or a damaged keyring, repeats nothing of it', async (t) => {
  const at = place(t);
  imported(at, [randomBytes(32)]);
  const secrets = secretsOf(at, new Map());
  const collected = new Collected();
  const commands = new Commands(at, collected);
  const hex = readFileSync(at.masterKeyFile, 'utf8').trim();
  const key = Buffer.from(hex, 'hex');
  const passphrase = `pass phrase ${randomBytes(10).toString('hex')}`;
  const wrong = randomBytes(32);
  secrets.set('passphrase', Buffer.from(passphrase)).set('wrong key', wrong);
  const files: Array<[content: Buffer | string, mode: number]> = [
    [wrong.toString('hex'), 0o600],
    [wrong, 0o600],
    [`${hex}0`, 0o600],
    [`${hex.slice(0, 63)}x`, 0o600],
    [`key: ${hex}\n`, 0o600],
    [`${key.toString('base64')}=`, 0o600],
    [Buffer.concat([key, key]), 0o600],
    [passphrase, 0o600],
    ['', 0o600],
    [hex.repeat(100), 0o600],
    [hex, 0o644],
    [hex, 0o660],
  ];
  for (const [index, [text, mode]] of files.entries()) {
    const path = join(at.directory, `key-${index}`);
    writeFileSync(path, text, { mode });
    const args = ['--data-dir', at.dataDir, '--master-key-file', path];
    const command = index % 2 === 0 ? ['serve', '--verbose'] : ['keys', 'list', '--json'];
    t.not((await commands.run([...command, ...args])).exit, 0, `key file ${index}`);
  }
  for (const [index, damage] of Object.values(KEYRING_DAMAGES).entries()) {
    const copy = withKeyring(at.dataDir, join(at.directory, `damaged-${index}`), damage);
    const args = ['--data-dir', copy, '--master-key-file', at.masterKeyFile];
    const command = index % 2 === 0 ? ['serve', '--verbose'] : ['doctor'];
    t.not((await commands.run([...command, ...args])).exit, 0, `keyring ${index}`);
    const error = await t.throwsAsync(createEmbeddedKms({ dataDir: copy, masterKeyFile: at.masterKeyFile }));
    collected.addError(`embedded, keyring ${index}`, error);
  }
  for (const name of ['PROGRESSDB_KMS_MASTER_KEY_HEX', 'PROGRESSDB_MINIKMS_MASTER_KEY']) {
    const store = ['serve', '--data-dir', at.dataDir];
    const twice = await commands.run([...store, '--master-key-file', at.masterKeyFile], { env: { [name]: hex } });
    t.is(twice.exit, 2, name);
    t.is((await commands.run(store, { env: { [name]: `${hex}0` } })).exit, 2, name);
  }
  for (const [index, yaml] of [
    `master_key: ${hex}0`,
    `master_key: "${hex}`,
    `${hex}`,
    `log: {${hex}: x}`,
    `socket: ${hex}:1`,
  ].entries()) {
    const path = join(at.directory, `config-${index}.yaml`);
    writeFileSync(path, yaml, { mode: 0o600 });
    for (const form of ['--verbose', '--json'])
      t.is((await commands.run(['serve', '--config', path, form])).exit, 2, `file ${index}`);
  }
  await commands.run(['serve', '--data-dir', at.dataDir, '--master-key-file', join(at.directory, 'absent')]);
  await commands.run(['serve', '--data-dir', at.dataDir, '--master-key-file', at.masterKeyFile], {
    nodeOptions: ['--inspect=0'],
  });
  silent(t, collected, secrets, /opens no slot/, /passphrase/, /checksum/, /chmod 600/, /MASTER_KEY_HEX/, /inspector/);
});

test('damaged records are named without anything of their content', async (t) => {
  const at = place(t);
  imported(
    at,
    Array.from({ length: 10 }, () => randomBytes(32)),
  );
  const secrets = secretsOf(at, new Map());
  const collected = new Collected();
  const copy = join(at.directory, 'damaged');
  const damaged = withRecords(at.dataDir, copy);
  const store = ['--data-dir', copy, '--master-key-file', at.masterKeyFile];
  const commands = new Commands(at, collected);
  for (const args of [['doctor'], ['keys', 'list'], ['keys', 'show', damaged[0]!], ['encrypt', '--key', damaged[1]!]]) {
    await commands.both(...args, ...store);
  }
  const daemon = await served(t, { ...at, dataDir: copy }, '--verbose');
  const kms = await connectKms(at.socket);
  for (const keyId of damaged) {
    const calls = [
      kms.encryptWithDek(keyId, randomBytes(20)),
      kms.describeKey(keyId),
      kms.getWrapped(keyId),
      kms.disableKey(keyId),
    ];
    for (const result of await Promise.allSettled(calls)) {
      if (result.status === 'fulfilled') t.fail(`${keyId} is used although it is damaged`);
      else collected.addError(keyId, result.reason);
    }
  }
  collected.add('status', JSON.stringify(await kms.status()));
  await commands.both('status');
  await commands.both('doctor');
  await kms.close();
  t.is(await daemon.stop(), 0);
  collected.add('the daemon', daemon.printed.text);
  silent(
    t,
    collected,
    secrets,
    /"damaged_records":\[\{/,
    /"event":"request_failed"/,
    /STORE_UNAVAILABLE/,
    new RegExp(damaged[6]!),
  );
});
