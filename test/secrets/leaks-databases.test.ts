import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { connectKms } from '../../dist/client/index.js';
import { askHttp } from '../daemon/http-peer.js';
import { partsOf, secretOf } from '../kms/databases.js';
import { silent } from './content.js';
import { Collected, Commands } from './leaks.js';
import { place, served } from './served.js';

/** Everything that stands in files of the data directory. */
function filesIn(path: string): Buffer {
  const names = readdirSync(path, { recursive: true, withFileTypes: true });
  return Buffer.concat(
    names.filter((one) => one.isFile()).map((one) => readFileSync(join(one.parentPath ?? one.path, one.name))),
  );
}

test('a database secret is printed once, and stands in no file, log, audit line, error or answer', async (t) => {
  const at = place(t);
  const collected = new Collected();
  const commands = new Commands(at, collected);
  const from = ['--data-dir', at.dataDir, '--master-key-file', at.masterKeyFile];
  t.is((await commands.run(['init', ...from])).exit, 0);
  const daemon = await served(t, at, '--log-level', 'debug', '--audit-data-operations', 'each');
  const { stdout } = await commands.run(['new-database'], { asksForData: true });
  const secret = stdout.toString().trim();
  const { key, groupId } = partsOf(secret);
  const wrong = secretOf({ groupId: '77', key });
  const secrets = new Map([
    ['key', Buffer.from(key, 'hex')],
    ['text', Buffer.from(secret)],
    ['group', Buffer.from(groupId)],
    ['hex', Buffer.from(key)],
  ]);
  const found = new Collected();
  found.add('data', stdout);
  found.add('decoded', Buffer.from(secret, 'base64'));
  const those = new Set(found.leaks(secrets).map((leak) => leak.replace(/ as .*/, '')));
  for (const one of ['data: text', 'decoded: group', 'decoded: hex', 'decoded: key'])
    t.true(those.has(one), `${one} is found out`);

  writeFileSync(join(at.directory, 'kms.json'), JSON.stringify({ kms_database_secret: secret }), { mode: 0o600 });
  t.deepEqual(await commands.both('create-dek', '--thread', 'thread'), [0, 0]);
  t.deepEqual(await commands.both('keys', 'list'), [0, 0]);
  t.deepEqual(await commands.both('keys', 'show', `k_${'0'.repeat(32)}`), [10, 10]);
  t.deepEqual(await commands.both('config', 'show', ...from), [0, 0]);
  t.deepEqual(await commands.both('status'), [0, 0]);
  await commands.both('doctor', ...from);
  for (const text of [
    `{"kms_database_secret":"${secret}`,
    `{"kms_database_secret":"${secret}","x":1}`,
    `["${secret}"]`,
    `{"kms_database_secret":["${secret}"]}`,
  ]) {
    writeFileSync(join(at.directory, 'wrong.json'), text, { mode: 0o600 });
    for (const exit of await commands.both('keys', 'list', '--kms-json', 'wrong.json')) t.is(exit, 2);
  }
  writeFileSync(join(at.directory, 'wrong.json'), JSON.stringify({ kms_database_secret: wrong }), { mode: 0o600 });
  t.deepEqual(await commands.both('keys', 'list', '--kms-json', 'wrong.json'), [12, 12]);

  for (const [path, value] of [
    ['/v1/keys', secret],
    ['/v1/keys', wrong],
    ['/v1/keys', `${secret}x`],
    ['/v1/nothing', secret],
    ['/encrypt', secret],
    ['/v1/status', secret],
  ] as const) {
    const answer = await askHttp(at.socket, { path, method: 'POST', body: '{"x":', headers: { KmsDatabaseSecret: value } });
    collected.add(`answer of ${path}`, `${answer.text} ${JSON.stringify(answer.headers)}`);
  }
  for (const databaseSecret of [wrong, `${secret.slice(0, 40)}==`, `${secret}\n`]) {
    collected.addError('connectKms', await t.throwsAsync(connectKms({ socket: at.socket, databaseSecret })));
  }
  const lines: unknown[] = [];
  const logger = { debug: (fields: unknown) => lines.push(fields) } as never;
  const kms = await connectKms({ socket: at.socket, databaseSecret: secret, logger });
  await kms.createDek();
  collected.addError('a client', await t.throwsAsync(kms.describeKey(`k_${'0'.repeat(32)}`)));
  collected.add('its log', JSON.stringify(lines));
  await kms.close();
  await daemon.stop();
  collected.add('daemon', daemon.printed.text);
  collected.add('data directory', filesIn(at.dataDir));
  t.deepEqual(await commands.both('keys', 'list', ...from), [0, 0]);
  t.deepEqual(await commands.both('databases', 'list', ...from), [0, 0]);
  silent(t, collected, secrets, /opens nothing here/, /it is no JSON/, /"act":"opened"/, /no such key/, /stopped/);
});
