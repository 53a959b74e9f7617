import { chmodSync } from 'node:fs';
import test from 'ava';
import { NetworkGround } from './network-ground.js';

const TRUSTING = '--ca-file ca.pem';
const BOSS = '--cert-file boss.pem --key-file boss.key';
const TOKEN = '--token-file token';

for (const [scheme, options] of [
  ['https', `${TRUSTING} ${BOSS}`],
  ['https', `${TRUSTING} ${TOKEN}`],
  ['kms+tls', `${TRUSTING} ${BOSS}`],
  ['kms+tls', `${TRUSTING} ${TOKEN}`],
  ['http', TOKEN],
  ['kms', TOKEN],
] as const) {
  test.serial(`every command goes over ${scheme} with ${options}`, async (t) => {
    const ground = await NetworkGround.create(t);
    const where = `--socket ${ground.at(scheme)} ${options}`;
    /** What it prints, of a command that does not fail. */
    const said = async (command: string, exit = 0) => {
      const ran = await ground.stage.run(`progressdb-kms ${command} ${where}`);
      t.is(ran.exit, exit, `${command}: ${ran.stderr}`);
      return ran.stdout;
    };
    const keyId = (await said('create-dek --thread chat/1')).trim();
    t.regex(keyId, /^k_[0-9a-f]{32}$/);
    // Of several chunks and one that is not whole, and of none.
    await ground.stage.run('head -c 700001 /dev/urandom > plain; : > empty');
    for (const [file, under] of [
      ['plain', `--key ${keyId}`],
      ['empty', ''],
    ]) {
      await said(`encrypt ${file} -o sealed ${under}`);
      await said('decrypt sealed -o opened');
      t.is((await ground.stage.run(`cmp ${file} opened && ! cmp -s ${file} sealed`)).exit, 0, file);
    }
    t.regex(await said('keys list --thread chat/1'), new RegExp(`^${keyId} +active .* chat/1\n$`));
    t.regex(await said(`keys disable ${keyId}`), /^state: +disabled$/m);
    t.regex(await said(`keys enable ${keyId}`), /^state: +active$/m);
    t.regex(await said(`keys show ${keyId}`), /^thread_id: +chat\/1$/m);
    const status = JSON.parse(await said('status --json'));
    t.like(status, { status: 'ok', socket: null, endpoint: ground.at(scheme) });
    await said('seal');
    t.regex(await said('status', 17), /^status: +sealed$/m);
    await said('unseal');
    const findings = await said('doctor');
    t.regex(findings, new RegExp(`^ok {6}endpoint: a daemon answers at ${ground.at(scheme).replace('+', '\\+')}$`, 'm'));
    for (const check of ['memory', 'key']) t.regex(findings, new RegExp(`^ok {6}${check}: `, 'm'));
    t.regex(findings, /^advice {2}machine: .* not looked at from here$/m);
    t.is(/^ok {6}certificate: the daemon's certificate ends on /m.test(findings), scheme === 'https' || scheme === 'kms+tls');
    t.is(/^ok {6}own-certificate: our /m.test(findings), options.includes(BOSS));
    t.notRegex(
      findings,
      /^\w+ +(data-dir|swap|core|memlock|clock): /m,
      'nothing of this machine is taken for that of the daemon',
    );
  });
}

test.serial('HTTP on a Unix socket is a socket like the other, and a token may go with both', async (t) => {
  const { stage } = await NetworkGround.create(t);
  await stage.run('progressdb-kms init --data-dir own --master-key-file own.key');
  t.is(await stage.start('progressdb-kms serve --data-dir own --master-key-file own.key --no-init'), undefined);
  const made = await stage.run('progressdb-kms token create --role client --data-dir own > own.token; chmod 600 own.token');
  t.is(made.exit, 0, made.stderr);
  for (const address of ['http+unix:kms.sock', `http+unix://${stage.work}/kms.sock`, 'kms.sock']) {
    const sealed = await stage.run(`echo hello | progressdb-kms encrypt --socket ${address} | progressdb-kms decrypt`);
    t.is(sealed.stdout, 'hello\n', `${address}: ${sealed.stderr}`);
    const status = `progressdb-kms status --socket ${address}`;
    t.is((await stage.run(status)).exit, 0, address);
    t.is((await stage.run(`${status} --token-file own.token`)).exit, 13, `${address}: a client's token may not`);
  }
  t.is(await stage.stop(), undefined);
  const gone = await stage.run('progressdb-kms status --socket http+unix:kms.sock');
  t.regex(gone.stderr, /^progressdb-kms: no daemon answers on .*kms\.sock\nhint: `progressdb-kms serve` starts one\n$/);
  const offline = 'progressdb-kms status --socket http+unix:kms.sock --data-dir own --master-key-file own.key --verbose';
  t.regex((await stage.run(offline)).stderr, /no daemon serves it: working on .*own itself/);
});

test.serial('the environment names the same files, and options hold over it', async (t) => {
  const ground = await NetworkGround.create(t);
  const { stage } = ground;
  Object.assign(stage.env, {
    PROGRESSDB_KMS_ENDPOINT: ground.at('https'),
    PROGRESSDB_KMS_TOKEN_FILE: 'missing.token',
    PROGRESSDB_KMS_CA_FILE: 'ca.pem',
    PROGRESSDB_KMS_CERT_FILE: 'boss.pem',
    PROGRESSDB_KMS_KEY_FILE: 'boss.key',
  });
  const missing = await stage.run('progressdb-kms create-dek');
  t.is(missing.exit, 2);
  t.regex(missing.stderr, /: PROGRESSDB_KMS_TOKEN_FILE: missing\.token cannot be read: ENOENT\n/);
  t.is((await stage.run('progressdb-kms create-dek --token-file token')).exit, 0);
  stage.env['PROGRESSDB_KMS_TOKEN_FILE'] = '';
  t.is((await stage.run('progressdb-kms create-dek')).exit, 0, 'by its certificate');
  stage.env['PROGRESSDB_KMS_CA_FILE'] = 'missing.pem';
  t.is((await stage.run('progressdb-kms create-dek')).exit, 2);
  const plain = await stage.run(`progressdb-kms create-dek --socket ${ground.at('http')} --token-file token`);
  t.is(plain.exit, 0, `what an address without TLS has no use for is not read: ${plain.stderr}`);
  t.is((await stage.run('progressdb-kms init --data-dir own --master-key-file own.key')).exit, 0, 'it calls nobody');
});

test.serial('a token or key that others can read is refused, with the command that closes it', async (t) => {
  const ground = await NetworkGround.create(t);
  const create = (options: string) => ground.stage.run(`progressdb-kms create-dek --socket ${ground.at('https')} ${options}`);
  for (const [file, options] of [
    ['token', TOKEN],
    ['boss.key', BOSS],
  ] as const) {
    chmodSync(`${ground.stage.work}/${file}`, 0o644);
    const open = await create(`${TRUSTING} ${options}`);
    t.is(open.exit, 13, open.stderr);
    const mend = /(chmod o-rwx \S+)\n$/.exec(open.stderr)?.[1];
    t.is(mend, `chmod o-rwx ${file}`, open.stderr);
    t.is((await ground.stage.run(mend!)).exit, 0);
    t.is((await create(`${TRUSTING} ${options}`)).exit, 0);
  }
  chmodSync(`${ground.stage.work}/ca.pem`, 0o666);
  t.regex((await create(`${TRUSTING} ${TOKEN}`)).stderr, /--ca-file: ca\.pem is open to others: chmod go-w ca\.pem\n$/);
});

test.serial('a token that is not taken ends a command, and is not repeated', async (t) => {
  const ground = await NetworkGround.create(t);
  ground.write('wrong.token', 'pk_hunter2\n');
  for (const scheme of ['https', 'kms+tls', 'http', 'kms'] as const) {
    const options = `${scheme === 'https' || scheme === 'kms+tls' ? TRUSTING : ''} --token-file wrong.token`;
    const { exit, stderr } = await ground.stage.run(`progressdb-kms create-dek --socket ${ground.at(scheme)} ${options}`);
    t.is(exit, 12, stderr);
    const hint = 'hint: --token-file, or --cert-file and --key-file, show the daemon who calls';
    t.is(stderr, `progressdb-kms: not authenticated: the token is not valid\n${hint}\n`, scheme);
  }
});

test.serial('a token file holds one line and no more', async (t) => {
  const ground = await NetworkGround.create(t);
  const outcome = async (text: string) => {
    ground.write('odd', text);
    return await ground.stage.run(`progressdb-kms create-dek --socket ${ground.at('http')} --token-file odd`);
  };
  const { stdout } = await ground.stage.run('cat token');
  for (const text of [stdout.trim(), stdout, `${stdout.trim()}\r\n`]) t.is((await outcome(text)).exit, 0);
  for (const text of ['', '\n', `${stdout}\n`, `${stdout}${stdout}`, ' x\n', 'ü']) {
    const { exit, stderr } = await outcome(text);
    t.is(exit, 2);
    t.is(stderr, 'progressdb-kms: invalid argument: --token-file: odd: one line of visible ASCII characters was expected\n');
  }
  t.regex((await outcome('x'.repeat(8_195))).stderr, /odd is longer than 8194 bytes\n$/);
  t.is((await ground.stage.run(`progressdb-kms create-dek --socket ${ground.at('http')} --token-file .`)).exit, 2);
});
