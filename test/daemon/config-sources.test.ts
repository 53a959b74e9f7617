import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test from 'ava';
import { NAMES, type Name, placeOf } from '../../dist/daemon/config/schema.js';
import { type DaemonFlags, resolveConfig, showConfig } from '../../dist/daemon/config.js';
import { configFile, DIGITS } from './config-files.js';

const HEX = 'a1'.repeat(32);
const MIB = 1024 * 1024;
const PUBLIC_KEYS = [0, 1, 2, 3].map((n) => Buffer.alloc(32, n).toString('base64'));

/** A weak and a strong value of each key, as text, and how they are shown. */
const SAMPLES: Record<Name, Array<[text: string, shown: unknown]>> = {
  socket: [1, 2, 3].map((n) => [`/s${n}`, `/s${n}`]),
  endpoint: [1, 2, 3].map((n) => [`127.0.0.1:${n}`, [`127.0.0.1:${n}`]]),
  group: [1, 2, 3].map((n) => [`${n}`, n]),
  dataDir: [1, 2, 3].map((n) => [`/d${n}`, `/d${n}`]),
  store: ['files', 'lmdb', 'files'].map((kind) => [kind, kind]),
  postgresUrl: [1, 2, 3].map((n) => [`postgres://u:p${n}@h/d`, '(set)']),
  postgresUrlFile: [1, 2, 3].map((n) => [`/u${n}`, `/u${n}`]),
  postgresCaFile: [1, 2, 3].map((n) => [`/p${n}`, `/p${n}`]),
  postgresSchema: [1, 2, 3].map((n) => [`s_${n}`, `s_${n}`]),
  postgresConnections: [1, 2, 3].map((n) => [`${n}`, n]),
  postgresStatementMs: [100, 200, 300].map((n) => [`${n}`, n]),
  postgresStaleAfterMs: [100, 200, 300].map((n) => [`${n}`, n]),
  masterKeyFile: [1, 2, 3].map((n) => [`/k${n}`, `/k${n}`]),
  masterKeyFd: [5, 6, 7].map((n) => [`${n}`, n]),
  spinUs: [1, 2, 3].map((n) => [`${n}`, n]),
  workers: [1, 2, 3].map((n) => [`${n}`, n]),
  parentFd: [5, 6, 7].map((n) => [`${n}`, n]),
  masterKeyHex: [1, 2, 3].map((n) => [HEX.replace('a1', `0${n}`), '(set)']),
  allowedUids: [1, 2, 3].map((n) => [`${n},10`, [n, 10]]),
  adminUids: [1, 2, 3].map((n) => [`${n}`, [n]]),
  auditorUids: [1, 2, 3].map((n) => [`${n}`, [n]]),
  allowUnauthenticatedLoopback: [
    ['false', false],
    ['true', true],
    ['true', true],
  ],
  unauthenticatedLoopbackRoles: [
    ['auditor', ['auditor']],
    ['admin', ['admin']],
    ['client', ['client']],
  ],
  tlsCertFile: [1, 2, 3].map((n) => [`/c${n}`, `/c${n}`]),
  tlsKeyFile: [1, 2, 3].map((n) => [`/k${n}`, `/k${n}`]),
  tlsClientCaFile: [1, 2, 3].map((n) => [`/a${n}`, `/a${n}`]),
  tlsCrlFile: [1, 2, 3].map((n) => [`/r${n}`, `/r${n}`]),
  clientCertificates: [1, 2, 3].map((n) => [`CN:a${n}, URI:spiffe://b/c`, [`CN:a${n}`, 'URI:spiffe://b/c']]),
  adminCertificates: [1, 2, 3].map((n) => [`DNS:a${n}`, [`DNS:a${n}`]]),
  auditorCertificates: [1, 2, 3].map((n) => [`email:a${n}@b`, [`email:a${n}@b`]]),
  oidcIssuer: [1, 2, 3].map((n) => [`https://i${n}`, `https://i${n}`]),
  oidcAudience: [1, 2, 3].map((n) => [`a${n}, b`, [`a${n}`, 'b']]),
  oidcJwksFile: [1, 2, 3].map((n) => [`/j${n}`, `/j${n}`]),
  oidcJwksUrl: [1, 2, 3].map((n) => [`https://i${n}/jwks`, `https://i${n}/jwks`]),
  oidcAlgorithms: [256, 384, 512].map((n) => [`ES${n},RS${n}`, [`ES${n}`, `RS${n}`]]),
  oidcClockSkewSeconds: [0, 1, 300].map((n) => [`${n}`, n]),
  oidcClientSubjects: [1, 2, 3].map((n) => [`${n},auth0|${n}`, [`${n}`, `auth0|${n}`]]),
  oidcAdminSubjects: [1, 2, 3].map((n) => [`s${n}`, [`s${n}`]]),
  oidcAuditorSubjects: [1, 2, 3].map((n) => [`s${n}`, [`s${n}`]]),
  oidcRolesClaim: [1, 2, 3].map((n) => [`r${n}.roles`, `r${n}.roles`]),
  oidcPrefixesClaim: [1, 2, 3].map((n) => [`https://p${n}/threads`, `https://p${n}/threads`]),
  narrowed: [1, 2, 3].map((n) => [`uid:${n} own`, [`uid:${n} own`]]),
  cachedKeys: [1, 2, 3].map((n) => [`${n}`, n]),
  keptContexts: [1, 2, 3].map((n) => [`${n}`, n]),
  contextIdleMs: [1, 2, 3].map((n) => [`${n}`, n]),
  keyIdleMs: [1, 2, 3].map((n) => [`${n}`, n]),
  arenaBytes: [1, 2, 3].map((n) => [`${n * 65_536}`, n * 65_536]),
  requestsPerSecond: [1, 2, 3].map((n) => [`${n}`, n]),
  bytesPerSecond: [1, 2, 3].map((n) => [`${n}`, n]),
  burstMs: [1, 2, 3].map((n) => [`${n}`, n]),
  auditDataOperations: ['off', 'each', 'grouped'].map((how) => [how, how]),
  auditStrict: [
    ['false', false],
    ['true', true],
    ['true', true],
  ],
  auditContinueOnFailure: [
    ['false', false],
    ['true', true],
    ['true', true],
  ],
  auditAuditorKey: [1, 2, 3].map((n) => [PUBLIC_KEYS[n] as string, PUBLIC_KEYS[n]]),
  auditMaxFileBytes: [1, 2, 3].map((n) => [`${n * MIB}`, n * MIB]),
  auditForward: [1, 2, 3].map((n) => [`https://h${n}/`, [`https://h${n}/`]]),
  auditForwardCaFile: [1, 2, 3].map((n) => [`/f${n}`, `/f${n}`]),
  keysPerIdentity: [1, 2, 3].map((n) => [`${n}`, n]),
  databasesPerIdentity: [1, 2, 3].map((n) => [`${n}`, n]),
  keysPerDatabase: [1, 2, 3].map((n) => [`${n}`, n]),
  keepBackups: [0, 1, 2].map((n) => [`${n}`, n]),
  rotationKeysPerSecond: [0, 1, 2].map((n) => [`${n}`, n]),
  rotationDueDays: [0, 1, 2].map((n) => [`${n}`, n]),
  logFile: [1, 2, 3].map((n) => [`/l${n}`, `/l${n}`]),
  logLevel: [
    ['warn', 'warn'],
    ['error', 'error'],
    ['debug', 'debug'],
  ],
  tracing: [
    ['false', false],
    ['true', true],
    ['true', true],
  ],
};

const TLS: DaemonFlags = {
  tlsCertFile: '/c',
  tlsKeyFile: '/k',
  tlsClientCaFile: '/a',
  tlsCrlFile: '/r',
  clientCertificates: 'CN:x',
};
/** The key's row, among what is shown. */
function row(name: Name, flags: DaemonFlags, env: NodeJS.ProcessEnv) {
  const { shown } = showConfig(flags, env);
  return shown.filter(({ key }) => key !== '--config')[NAMES.indexOf(name)]!;
}

/** What a key means nothing without. */
function others(name: Name): DaemonFlags {
  if (name === 'unauthenticatedLoopbackRoles') return { allowUnauthenticatedLoopback: true };
  if (/^tls|Certificates$/.test(name)) return { ...TLS, [name]: undefined };
  if (name.startsWith('postgres')) return { store: 'postgres', ...(/Url/.test(name) ? {} : { postgresUrlFile: '/u' }) };
  if (!name.startsWith('oidc')) return {};
  const issuer: DaemonFlags = { oidcIssuer: 'i', oidcAudience: 'a', oidcJwksFile: '/j', oidcClientSubjects: 's' };
  const left = name === 'oidcJwksUrl' ? [name, 'oidcJwksFile'] : [name];
  return Object.fromEntries(Object.entries(issuer).filter(([key]) => !left.includes(key)));
}

for (const name of NAMES) {
  const { yaml = [], flag, variables = [] } = placeOf(name);
  const [inFile, inEnvironment, onCommandLine] = SAMPLES[name];
  const also = others(name);

  for (const key of [...yaml, ...yaml.filter((one) => !one.includes('.')).map((one) => `security.kms.${one}`)]) {
    test(`${name}: the file's ${key} holds over the default, and its line is remembered`, (t) => {
      const parts = key.split('.');
      const lines = parts.map((part, depth) => `${'  '.repeat(depth)}${part}:`);
      const config = configFile(t, `# a comment\n${lines.join('\n')} ${inFile![0]}\n`);
      const { value, source } = row(name, { ...also, config }, {});
      t.deepEqual(value as unknown, inFile![1]);
      t.is(source, `${config}:${parts.length + 1} ${key}`);
    });
  }

  for (const variable of variables) {
    test(`${name}: ${variable} holds over the file, unless it is a secret`, (t) => {
      const { secret } = placeOf(name);
      const key = yaml.at(-1)!;
      const config = configFile(t, `${key.replace('.', ':\n  ')}: ${inFile![0]}\n`);
      const env = { [variable]: inEnvironment![0] };
      t.is(row(name, {}, env).source, variable);
      t.deepEqual(row(name, {}, env).value as unknown, inEnvironment![1]);
      const inConfig = `${config}:${key.split('.').length} ${key}`;
      t.is(row(name, { ...also, config }, env).source, secret ? inConfig : variable);
    });
  }

  if (flag !== undefined) {
    test(`${name}: --${flag} holds over everything`, (t) => {
      const value = onCommandLine![0];
      const flags = { ...also, [name]: value === 'true' ? true : value };
      const config =
        yaml.length === 0 ? configFile(t, '') : configFile(t, `${yaml.at(-1)!.replace('.', ':\n  ')}: ${inFile![0]}\n`);
      const env = Object.fromEntries(variables.map((variable) => [variable, inEnvironment![0]]));
      const shown = row(name, { ...flags, config }, env);
      t.deepEqual(shown.value as unknown, onCommandLine![1]);
      t.is(shown.source, `--${flag}`);
    });
  }

  test(`${name}: what nobody gives is a default`, (t) => {
    t.is(row(name, {}, {}).source, 'default');
  });
}

test('the file may be named by a variable, and a flag names another', (t) => {
  const [one, other] = [configFile(t, 'socket: /one\n'), configFile(t, 'socket: /other\n')];
  t.is(showConfig({}, { PROGRESSDB_KMS_CONFIG: one }).shown[1]?.value, '/one');
  t.is(showConfig({ config: other }, { PROGRESSDB_KMS_CONFIG: one }).shown[1]?.value, '/other');
});

test('with a file, a key in the environment is not read, and that is said', (t) => {
  const config = configFile(t, 'master_key_file: /k\n');
  const resolved = resolveConfig({ config }, { PROGRESSDB_KMS_MASTER_KEY_HEX: HEX });
  t.is(resolved.masterKeyFile, '/k');
  t.is(resolved.masterKeyBytes, undefined);
  t.like(resolved.warnings[0], { event: 'ignored_variable', source: 'PROGRESSDB_KMS_MASTER_KEY_HEX' });
});

for (const source of ['PROGRESSDB_KMS_MASTER_KEY_HEX', 'PROGRESSDB_MINIKMS_MASTER_KEY', 'master_key_hex', 'master_key']) {
  test(`a key in ${source} is taken with a warning, and shown nowhere`, (t) => {
    const inEnvironment = source.startsWith('PROGRESSDB');
    const flags = inEnvironment ? {} : { config: configFile(t, `${source}: ${DIGITS}\n`) };
    const env = inEnvironment ? { [source]: DIGITS } : {};
    const { masterKeyBytes, ...rest } = resolveConfig(flags, env);
    t.is(Buffer.from(masterKeyBytes!).toString('hex'), DIGITS);
    t.like(rest.warnings[0], { event: 'master_key_in_config' });
    t.regex(rest.warnings[0]!.source, new RegExp(source));
    const told = JSON.stringify([rest, showConfig(flags, env)]);
    t.false(told.includes(DIGITS.slice(0, 16)));
    t.true(JSON.stringify([...masterKeyBytes!]) !== JSON.stringify(new Array(32).fill(0)), 'one is there to be told');
  });
}

const TWO: Array<[flags: DaemonFlags, env: NodeJS.ProcessEnv, yaml: string, named: RegExp]> = [
  [{ masterKeyFile: '/k', masterKeyFd: '0' }, {}, '', /^invalid argument: --master-key-file: .*--master-key-fd/],
  [{ masterKeyFile: '/k' }, { PROGRESSDB_KMS_MASTER_KEY_HEX: HEX }, '', /PROGRESSDB_KMS_MASTER_KEY_HEX: .*--master-key-file/],
  [{ masterKeyFd: 0 }, {}, 'master_key_file: /k', /kms\.yaml:1: master_key_file: .*--master-key-fd/],
  [{}, {}, `master_key_file: /k\nmaster_key: ${HEX}`, /kms\.yaml:2: master_key: .*kms\.yaml:1 master_key_file/],
];
for (const [index, [flags, env, yaml, named]] of TWO.entries()) {
  test(`two sources of a master key are refused, and both are named (${index + 1})`, (t) => {
    const file = yaml === '' ? {} : { config: configFile(t, yaml) };
    const error = t.throws(() => resolveConfig({ ...flags, ...file }, env), { code: 'INVALID_ARGUMENT', message: named });
    t.false(error!.message.includes(HEX));
  });
}

test('the credential of systemd is used where nothing else names a key', (t) => {
  const directory = join(dirname(configFile(t, '')), 'credentials');
  mkdirSync(directory);
  const env = { CREDENTIALS_DIRECTORY: directory };
  t.throws(() => resolveConfig({}, env), { message: /no master key is given/ });
  writeFileSync(join(directory, 'master-key'), HEX);
  t.is(resolveConfig({}, env).masterKeyFile, join(directory, 'master-key'));
  t.is(resolveConfig({ masterKeyFile: '/k' }, env).masterKeyFile, '/k');
  t.is(resolveConfig({ dev: true }, env).masterKeyFile, undefined);
});

test('dev passes over variables, and refuses a file that names a key or a place for data', (t) => {
  const env = { PROGRESSDB_KMS_MASTER_KEY_HEX: HEX, PROGRESSDB_KMS_DATA_DIR: '/d' };
  t.is(resolveConfig({ dev: true }, env).masterKeyBytes, undefined);
  for (const line of ['data_dir: /d', 'master_key_file: /k', `master_key_hex: ${HEX}`]) {
    const config = configFile(t, line);
    const error = t.throws(() => resolveConfig({ dev: true, config }, env), { message: /kms\.yaml:1: .*--dev/ });
    t.false(error!.message.includes(HEX));
  }
  t.throws(() => resolveConfig({ dev: true, masterKeyFd: 0 }, {}), { message: /--master-key-fd.*--dev/ });
});

test('a host:port for a socket is an endpoint and takes the place of the default socket', (t) => {
  const flags = { masterKeyFile: '/k', socket: 'localhost:6820' };
  const config = resolveConfig(flags, {});
  t.is(config.socket, undefined);
  t.deepEqual(config.endpoints, [{ host: '127.0.0.1', port: 6820, source: '--socket' }]);
  t.is(resolveConfig(flags, { PROGRESSDB_KMS_SOCKET: '/given' }).socket, '/given', 'one that is given stays');
  const both = resolveConfig({ ...flags, endpoint: ['[::1]:1', '127.0.0.1:6820,http://127.0.0.1:2/x'] }, {});
  t.deepEqual(both.endpoints, [
    { host: '::1', port: 1, source: '--endpoint' },
    { host: '127.0.0.1', port: 6820, source: '--endpoint' },
    { host: '127.0.0.1', port: 2, source: '--endpoint' },
  ]);
});

test('the address for clients is not one for the daemon', (t) => {
  t.deepEqual(showConfig({}, { PROGRESSDB_KMS_ENDPOINT: '127.0.0.1:1' }), showConfig({}, {}));
});

test('the variable of a binary is passed over, and that is said', (t) => {
  const { warnings } = resolveConfig({ masterKeyFile: '/k' }, { PROGRESSDB_KMS_BINARY: '/usr/bin/kms' });
  t.like(warnings[0], { event: 'ignored_variable', source: 'PROGRESSDB_KMS_BINARY' });
});
