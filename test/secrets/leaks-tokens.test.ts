import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { createToken, listTokens, revokeToken } from '../../dist/daemon/token-writer.js';
import { Tokens } from '../../dist/daemon/tokens.js';
import { silent } from './content.js';
import { Collected, Commands } from './leaks.js';
import { place, served } from './served.js';

const DAMAGES: Array<(text: string) => string> = [
  (text) => text.slice(0, -4),
  (text) => `x${text}`,
  (text) => text.replace(/("sha256": "[0-9a-f]+)"/, '$1G"'),
  (text) => text.replace(/"sha256": ("[0-9a-f]+")/, '$1: $1'),
  (text) => text.replace(/("sha256": "[0-9a-f]+",)/, '$1 $1'),
  (text) => text.replace(/"name": "[^"]*"/, '"name": "kms_ a"'),
  (text) => text.replace('"format": 1', '"format": 9'),
  (text) => JSON.stringify({ ...JSON.parse(text), tokens: [...JSON.parse(text).tokens, ...JSON.parse(text).tokens] }),
];

test('a token is printed once, and neither its secret nor its hash in any list, log or error', async (t) => {
  const at = place(t);
  const collected = new Collected();
  const commands = new Commands(at, collected);
  const from = ['--data-dir', at.dataDir, '--master-key-file', at.masterKeyFile];
  t.is((await commands.run(['init', ...from])).exit, 0);
  const create = ['token', 'create', ...from, '--role', 'client', '--own', '--thread-prefix', 'chat/'];
  const plain = await commands.run([...create, '--verbose'], { asksForData: true });
  const json = await commands.run([...create, '--json'], { asksForData: true });
  const texts = [plain.stdout.toString().trim(), JSON.parse(json.stdout.toString()).token as string];
  const bytesOf = (text: string) => Buffer.from(text.slice(21), 'base64url');
  const secrets = new Map<string, Buffer>();
  for (const [index, text] of texts.entries()) {
    const secret = bytesOf(text);
    secrets.set(`secret ${index}`, secret).set(`hash ${index}`, createHash('sha256').update(secret).digest());
  }
  t.is(secrets.size, 4);
  const path = join(at.dataDir, 'tokens.json');
  const good = readFileSync(path, 'utf8');
  const found = new Collected();
  found.add('file', good);
  found.add('data', Buffer.concat([plain.stdout, json.stdout]));
  t.deepEqual(
    [...new Set(found.leaks(secrets).map((leak) => leak.replace(/ as .*/, '')))].sort(),
    ['data: secret 0', 'data: secret 1', 'file: hash 0', 'file: hash 1'],
    'what holds them is found out',
  );

  t.deepEqual(await commands.both('token', 'list', ...from), [0, 0]);
  await commands.both('token', 'revoke', texts[0]!, ...from);
  await commands.both('token', 'revoke', '0123456789abcdef', ...from);
  const daemon = await served(t, at, '--verbose');
  const tokens = new Tokens(at.dataDir);
  t.truthy(tokens.identify(texts[0]!));
  collected.addError('Tokens', tokens);
  for (const damage of DAMAGES) {
    const damaged = damage(good);
    t.not(damaged, good);
    writeFileSync(path, damaged);
    t.is((await commands.run(['token', 'list', ...from])).exit === 0, false);
    await commands.run(['doctor', ...from]);
    collected.add('fault', String(new Tokens(at.dataDir).fault()));
    for (const act of [
      () => listTokens(at.dataDir),
      () => createToken(at.dataDir, { roles: ['client'] }),
      () => revokeToken(at.dataDir, texts[0]!),
    ]) {
      collected.addError('a call', await t.throwsAsync(act()));
    }
  }
  writeFileSync(path, good);
  t.deepEqual(await commands.both('token', 'revoke', texts[0]!.slice(4, 20), ...from), [0, 2]);
  await daemon.stop();
  collected.add('daemon', daemon.printed.text);
  silent(t, collected, secrets, /every token is refused/, /a member stands twice/, /not a token id/, /own keys/, /stopped/);
});
