import { chmodSync } from 'node:fs';
import test from 'ava';
import { type DaemonFlags, resolveConfig, showConfig } from '../../dist/daemon/config.js';
import { configFile, DIGITS } from './config-files.js';

const SECRET = 'fedc'.repeat(16);

/** A file, and what follows `FILE:` in its one error; the code is INVALID_ARGUMENT unless the line says otherwise. */
const WRONG: Array<[yaml: string, line: string]> = [
  ['socket: ""', '1: socket: must be the path of a socket, not ""'],
  ['a: b\nsocket: https://x/y', '2: socket: must be a path, unix:///path or host:port, not "https://x/y"'],
  ['socket: [a, b]', '1: socket: must be one value, not "a,b"'],
  ['socket:\n  path: /x', '2: socket: must be a value, not a mapping'],
  ['endpoint: kms.example:1', '1: endpoint: must have an IP address or localhost for a host, not "kms.example:1"'],
  ['endpoint: 127.0.0.1', '1: endpoint: must be host:port, [v6]:port, http://host:port or https://host:port, not "127.0.0.1"'],
  ['endpoint: ::1:80', '1: endpoint: must be host:port, [v6]:port, http://host:port or https://host:port, not "::1:80"'],
  ['endpoint: 127.0.0.1:0', '1: endpoint: must have a port from 1 to 65535, not "127.0.0.1:0"'],
  ['endpoint: 127.0.0.1:65536', '1: endpoint: must have a port from 1 to 65535, not "127.0.0.1:65536"'],
  ['endpoint: http://u:pw@127.0.0.1:1', '1: endpoint: must not hold a user or a password, not "http://…@127.0.0.1:1"'],
  ['listen:\n  endpoints:\n    - {a: b}', '2: listen.endpoints: must be a value, or a list of values'],
  ['listen:\n  group: no such group', '2: listen.group: must be a group of /etc/group or a number, not "no such group"'],
  ['listen: /x', '1: listen: must be a section with keys of its own'],
  ['listen:\n  sokcet: /x', '2: listen.sokcet: is not a key of the configuration'],
  ['log:\n  level: info\nsokcet: /x', '3: sokcet: is not a key of the configuration'],
  ['log:\n  level: loud', '2: log.level: must be debug, info, warn or error, not "loud"'],
  ['store: postgres', '1: store: postgres needs postgres.url_file or postgres.url'],
  ['postgres:\n  url_file: /u', '2: postgres.url_file: means nothing without store: postgres'],
  [
    'store: postgres\npostgres:\n  url_file: /u\n  url: postgres://u:secret@h/d',
    '3: postgres.url_file: the database is named already: FILE:4 postgres.url; name it once',
  ],
  [
    'store: postgres\npostgres:\n  url_file: /u\n  schema: "a;b"',
    '4: postgres.schema: must be 1 to 48 lower-case letters, digits and _, with no digit first, not "a;b"',
  ],
  [
    'store: postgres\npostgres:\n  url_file: /u\n  stale_after_ms: 10',
    '4: postgres.stale_after_ms: must be a whole number from 100 to 3600000, not "10"',
  ],
  ['log_file: ""', '1: log_file: must be a path, not ""'],
  ['data_dir: "a\\0b"', '1: data_dir: must be a path, not "a\\u0000b"'],
  [`master_key_file: ${SECRET}`, '1: master_key_file: must be the path of a file, not what looks like a key'],
  [`master_key_hex: ${SECRET}0`, '1: master_key_hex: must be 64 hex digits'],
  [`master_key_hex: ${'0'.repeat(64)}`, '1: master_key_hex: must not be one byte repeated, which is no key'],
  [`master_key_hex: 0x${SECRET.slice(2)}`, '1: master_key_hex: must be 64 hex digits'],
  ['allowed_uids: [1, x]', '1: allowed_uids: must be user ids, separated by commas, not "1,x"'],
  ['auth:\n  admin_uids: 65534', '2: auth.admin_uids: must not hold 65534, the uid of everybody unknown, not "65534"'],
  ['allow_unauthenticated_loopback: yes', '1: allow_unauthenticated_loopback: must be true or false, not "yes"'],
  [
    'unauthenticated_loopback_roles: [admin]',
    '1: unauthenticated_loopback_roles: means nothing without allow_unauthenticated_loopback: true',
  ],
  [
    'allow_unauthenticated_loopback: true\nunauthenticated_loopback_roles: [root]',
    '2: unauthenticated_loopback_roles: must be roles out of client, admin and auditor, not "root"',
  ],
  [
    'allow_unauthenticated_loopback: true\nunauthenticated_loopback_roles: []',
    '2: unauthenticated_loopback_roles: must name at least one role, not ""',
  ],
  ['cache:\n  cached_keys: 1e3', '2: cache.cached_keys: must be a whole number from 1 to 10000000, not "1e3"'],
  ['cache:\n  arena_bytes: 1', '2: cache.arena_bytes: must be a whole number from 65536 to 2147483648, not "1"'],
  ['socket: /x\nlisten:\n  socket: /y', '3: listen.socket: is given already: FILE:1 socket'],
  [`master_key: ${SECRET}\nmaster_key_hex: ${SECRET}`, '2: master_key_hex: is given already: FILE:1 master_key'],
  [`master_key: ${SECRET}\nmaster_key: ${SECRET}`, '2: master_key: is given already in line 1'],
  ['a: 1\nb:\n  - 2\na: 3', '4: a: is given already in line 1'],
  ['socket: !!str /x', '1: YAML tags are not read'],
  ['socket: &a /x', '1: YAML anchors and aliases are not read'],
  ['other: &a [*a]', '1: YAML anchors and aliases are not read'],
  ['a: {b: [*c]}', '1: YAML anchors and aliases are not read'],
  [`master_key: "${SECRET}`, '1: is not valid YAML (MISSING_CHAR)'],
  [`a: b\nmaster_key: ${SECRET}: x`, '2: is not valid YAML (BLOCK_AS_IMPLICIT_KEY)'],
  ['a: b\n---\nc: d', '2: is not valid YAML (MULTIPLE_DOCS)'],
  ['[a]: b', '1: a key must be plain text'],
];
for (const [yaml, line] of WRONG) {
  test(`one line names what is wrong with ${JSON.stringify(yaml.replaceAll(SECRET, 'KEY'))}`, (t) => {
    const config = configFile(t, yaml);
    const error = t.throws(() => showConfig({ config }, {}), { code: 'INVALID_ARGUMENT' });
    t.is(error!.message.replaceAll(config, 'FILE'), `invalid argument: FILE:${line}`);
    t.false(error!.message.includes(SECRET.slice(0, 16)));
  });
}

const REFUSED: Array<[endpoint: string, rule: RegExp]> = [
  ['0.0.0.0:1', /beyond loopback TLS is needed: give https:\/\/0\.0\.0\.0:1/],
  ['[::]:1', /beyond loopback/],
  ['[::ffff:127.0.0.1]:1', /beyond loopback/],
  ['http://10.0.0.1:1', /beyond loopback/],
  ['[fe80::1%eth0]:1', /without a zone/],
  ['https://[fe80::1%eth0]:1', /without a zone/],
  ['https://kms.example:1', /must have an IP address or localhost/],
  ['https://10.0.0.1', /must be host:port/],
  ['https://127.0.0.1:1', /needs tls\.cert_file and tls\.key_file/],
  ['kms+tls://127.0.0.1:1', /must be host:port/],
];
for (const [endpoint, rule] of REFUSED) {
  test(`the endpoint ${endpoint} is refused, and one line says why`, (t) => {
    t.throws(() => showConfig({ endpoint }, {}), { code: 'INVALID_ARGUMENT', message: rule });
    const config = configFile(t, `endpoint: "${endpoint}"`);
    const inFile = t.throws(() => showConfig({ config }, {}), { code: 'INVALID_ARGUMENT', message: rule });
    t.true(inFile?.message.includes(`${config}:1: endpoint: `), inFile?.message);
  });
}

const NARROWINGS = [
  'cert:app own',
  'uid:1',
  'uid:x own',
  'token:0123456789abcdef own',
  'cert:CN:a prefix:b',
  'uid:4294967295 own',
  'uid:1 thread:',
  'uid:1 thread:a b',
];
for (const narrowing of NARROWINGS) {
  test(`an identity is not narrowed by ${narrowing}`, (t) => {
    const config = configFile(t, `auth: {narrowed: ["${narrowing}"]}`);
    t.throws(() => showConfig({ config }, {}), { message: /1: auth\.narrowed: must be an identity and what it is for/ });
  });
}

test('a certificate that no list names is not narrowed: the one that was meant would go on as it is', (t) => {
  const tls = { tlsCertFile: '/c', tlsKeyFile: '/k', tlsClientCaFile: '/a', clientCertificates: 'DNS:app' };
  t.throws(() => showConfig({ ...tls, narrowed: 'cert:DNS:ap own' }, {}), {
    message: /--narrowed: cert:DNS:ap is in none of auth\.client_certificates, /,
  });
  t.notThrows(() => showConfig({ ...tls, narrowed: 'cert:DNS:APP own' }, {}));
});

test('an identity is narrowed once', (t) => {
  t.throws(() => showConfig({ narrowed: 'uid:1 own,uid:01 thread:a' }, {}), { message: /must name each identity once/ });
});

const HALF: Array<[yaml: string, rule: string]> = [
  ['tls: {cert_file: /c}', 'tls.cert_file: means nothing without tls.key_file'],
  ['tls: {key_file: /k}', 'tls.key_file: means nothing without tls.cert_file'],
  ['tls: {client_ca_file: /a}', 'tls.client_ca_file: means nothing without tls.cert_file'],
  ['tls: {cert_file: /c, key_file: /k, crl_file: /r}', 'tls.crl_file: means nothing without tls.client_ca_file'],
  ['auth: {client_certificates: [CN:a]}', 'auth.client_certificates: means nothing without tls.client_ca_file'],
  [
    'tls: {cert_file: /c, key_file: /k, client_ca_file: /a}',
    'tls.client_ca_file: means nothing without names in auth.client_certificates, auth.admin_certificates, auth.auditor_certificates',
  ],
  ['auth: {client_certificates: [app]}', 'auth.client_certificates: must be names of certificates, as CN:app'],
  ['auth: {admin_certificates: ["IP Address:127.0.0.1"]}', 'auth.admin_certificates: must be names of certificates'],
];
for (const [yaml, rule] of HALF) {
  test(`half of TLS is refused: ${yaml}`, (t) => {
    const config = configFile(t, yaml);
    const error = t.throws(() => showConfig({ config }, {}), { code: 'INVALID_ARGUMENT' });
    t.true(error?.message.startsWith(`invalid argument: ${config}:1: ${rule}`), error?.message);
  });
}

test('TLS that is whole is taken, beyond loopback too', (t) => {
  const yaml =
    'listen: {endpoints: ["https://0.0.0.0:1", "https://[::]:2/kms", "127.0.0.1:3"]}\ntls: {cert_file: /c, key_file: /k}';
  const { shown } = showConfig({ config: configFile(t, yaml) }, {});
  const endpoints = shown.find(({ key }) => key === 'listen.endpoints')?.value as unknown;
  t.deepEqual(endpoints, ['https://0.0.0.0:1', 'https://[::]:2', '127.0.0.1:3']);
});

test('loopback in any of its spellings is taken', (t) => {
  const { shown } = showConfig({ endpoint: '127.9.9.9:1,LOCALHOST:2,[0:0::0:1]:3,http://[::1]:4/kms' }, {});
  t.deepEqual(shown.find(({ key }) => key === 'listen.endpoints')?.value as unknown, [
    '127.9.9.9:1',
    '127.0.0.1:2',
    '[0:0::0:1]:3',
    '[::1]:4',
  ]);
});

const WHOLE: Array<[what: string, content: string | Uint8Array, rule: RegExp]> = [
  ['a list', '- a', /FILE: must be a mapping/],
  ['a text', SECRET, /FILE: must be a mapping/],
  ['a directive', '# x\n%YAML 1.1\n---\na: b', /FILE: YAML directives are not read/],
  ['no UTF-8', Buffer.from([0x61, 0x3a, 0x20, 0xff]), /FILE: is not UTF-8 text/],
  ['more than a MiB', `a: ${'x'.repeat(2 ** 20)}`, /FILE: is longer than 1048576 bytes/],
  ['nesting without end', '['.repeat(20_000), /FILE/],
];
for (const [what, content, rule] of WHOLE) {
  test(`a file that is ${what} is refused`, (t) => {
    const config = configFile(t, content);
    const error = t.throws(() => showConfig({ config }, {}), { code: 'INVALID_ARGUMENT' });
    t.regex(error!.message.replaceAll(config, 'FILE'), rule);
    t.false(/\n|(fedc){4}/.test(error!.message));
  });
}

test('a file that is not there or none is named with who named it', (t) => {
  t.throws(() => showConfig({ config: '/absent/kms.yaml' }, {}), {
    message: /--config: \/absent\/kms\.yaml cannot be read: ENOENT/,
  });
  t.throws(() => showConfig({}, { PROGRESSDB_KMS_CONFIG: '/' }), { message: /PROGRESSDB_KMS_CONFIG: \/ is not a regular file/ });
});

test('an empty file, and sections and keys that hold nothing, set nothing', (t) => {
  for (const yaml of ['', '# nothing\n', '~', 'listen:\nsocket: ~\ndata_dir: null\nauth: {}\n']) {
    const flags: DaemonFlags = { config: configFile(t, yaml) };
    t.deepEqual(showConfig(flags, {}).shown.slice(1), showConfig({}, {}).shown, yaml);
  }
});

test('a file with a secret that others may read is refused with the command that mends it', (t) => {
  const config = configFile(t, `master_key_hex: ${SECRET}\n`, 0o640);
  const error = t.throws(() => resolveConfig({ config }, {}), { code: 'INVALID_ARGUMENT' });
  t.true(error!.message.endsWith(`:1: master_key_hex: the file may be read by others: chmod 600 ${config}`), error!.message);
  chmodSync(config, 0o600);
  t.notThrows(() => resolveConfig({ config }, {}));
  t.notThrows(() => resolveConfig({ config: configFile(t, 'master_key_file: /k\n', 0o644) }, {}), 'a path is no secret');
});

for (const mode of [0o620, 0o602]) {
  test(`a file of mode ${mode.toString(8)} is refused whatever it holds`, (t) => {
    const config = configFile(t, 'socket: /x\n', mode);
    t.throws(() => showConfig({ config }, {}), { message: new RegExp(`may be written by others: chmod go-w ${config}$`) });
  });
}

test('in a file of the older style an unknown key is a warning with its line', (t) => {
  const config = configFile(t, `socket: /x\nsokcet: /y\n${SECRET}: x\n`);
  const { warnings } = showConfig({ config }, {});
  t.deepEqual(
    warnings.map(({ event, source }) => [event, source]),
    [
      ['unknown_key', `${config}:2 sokcet`],
      ['unknown_key', `${config}:3 a key`],
    ],
  );
});

/** What existing installations have. */
const EXISTING: Array<[what: string, yaml: string, warned: string[]]> = [
  [
    'of a daemon of its own',
    `master_key_hex: ${DIGITS}\nsocket: /var/run/progressdb/kms.sock\ndata_dir: /var/lib/progressdb/kms\nallowed_uids: [1000]\nlog_file: /var/log/kms.log\n`,
    ['master_key_in_config'],
  ],
  [
    'of the server',
    [
      'server:',
      '  address: 0.0.0.0',
      '  port: 8080',
      'storage:',
      '  db_path: ./data',
      'security:',
      '  encryption:',
      '    use: true',
      '    fields:',
      '      - path: body.credit_card',
      '        algorithm: aes-gcm',
      '  kms:',
      '    endpoint: 127.0.0.1:6820',
      '    data_dir: /var/lib/progressdb/kms',
      `    master_key_hex: ${DIGITS}`,
      '',
    ].join('\n'),
    ['unknown_key', 'unknown_key', 'unknown_key', 'key_of_the_server', 'key_of_the_server', 'master_key_in_config'],
  ],
];
for (const [what, yaml, warned] of EXISTING) {
  test(`a file ${what} keeps its meaning, a key of digits only included`, (t) => {
    const config = resolveConfig({ config: configFile(t, yaml) }, {});
    t.is(Buffer.from(config.masterKeyBytes!).toString('hex'), DIGITS);
    t.is(config.dataDir, '/var/lib/progressdb/kms');
    t.deepEqual(
      config.warnings.map(({ event }) => event),
      warned,
    );
  });
}
