import { resolve } from 'node:path';
import test from 'ava';
import { type DaemonFlags, DEFAULT_SOCKET, resolveConfig } from '../../dist/daemon/config.js';

const KEY = { masterKeyFile: '/k' };

test('the defaults: compatibility socket, data dir beside us, strict, initialising', (t) => {
  const config = resolveConfig(KEY, {});
  t.is(config.socket, DEFAULT_SOCKET);
  t.is(config.dataDir, resolve('kms-data'));
  t.true(config.strict);
  t.true(config.initialise);
  const certificates = { client: [], admin: [], auditor: [] };
  t.deepEqual(config.access, {
    allowedUids: [],
    adminUids: [],
    auditorUids: [],
    certificates,
    narrowed: {},
    unauthenticatedLoopbackRoles: [],
  });
  t.is(config.tls, undefined);
  t.is(config.socketGroup, undefined);
  t.deepEqual(config.endpoints, []);
  t.is(config.logFile, undefined);
  t.is(config.logLevel, 'info');
  t.deepEqual(config.warnings, []);
});

test('without a command the endpoint of the Go daemon is the default one, and only without another', (t) => {
  const endpointsWith = (flags: DaemonFlags) =>
    resolveConfig({ dev: true, ...flags }, {}).endpoints.map(({ host, port }) => `${host}:${port}`);
  t.deepEqual(endpointsWith({ asOriginal: true }), ['127.0.0.1:6820']);
  t.deepEqual(endpointsWith({ asOriginal: false }), []);
  t.deepEqual(endpointsWith({ asOriginal: true, endpoint: '127.0.0.1:7000' }), ['127.0.0.1:7000']);
  t.deepEqual(endpointsWith({ asOriginal: true, socket: '127.0.0.1:7000' }), ['127.0.0.1:7000']);
});

test('a flag wins over the environment, the environment over the default', (t) => {
  const env = { PROGRESSDB_KMS_SOCKET: '/env.sock', PROGRESSDB_KMS_DATA_DIR: '/env-data' };
  t.is(resolveConfig(KEY, env).socket, '/env.sock');
  t.is(resolveConfig({ ...KEY, socket: '/flag.sock' }, env).socket, '/flag.sock');
  t.is(resolveConfig(KEY, env).dataDir, '/env-data');
  t.is(resolveConfig({ ...KEY, dataDir: '/flag-data' }, env).dataDir, '/flag-data');
});

test('an empty variable counts as absent', (t) => {
  t.is(resolveConfig(KEY, { PROGRESSDB_KMS_SOCKET: '' }).socket, DEFAULT_SOCKET);
});

test('the legacy variables keep their meaning, behind the newer ones', (t) => {
  const legacy = { PROGRESSDB_MINIKMS_MASTER_KEY_FILE: '/old', PROGRESSDB_MINIKMS_ALLOWED_UIDS: '1000, 1001' };
  t.is(resolveConfig({}, legacy).masterKeyFile, '/old');
  t.is(resolveConfig({}, { ...legacy, PROGRESSDB_KMS_MASTER_KEY_FILE: '/new' }).masterKeyFile, '/new');
  t.deepEqual(resolveConfig({}, legacy).access.allowedUids, [1000, 1001]);
});

test('a socket may be a path or a unix: URL', (t) => {
  t.is(resolveConfig({ ...KEY, socket: 'unix:///run/x.sock' }, {}).socket, '/run/x.sock');
  t.is(resolveConfig({ ...KEY, socket: 'x.sock' }, {}).socket, resolve('x.sock'));
});

test('dev needs no key and stores nothing, and excludes what would say otherwise', (t) => {
  const config = resolveConfig({ dev: true }, { PROGRESSDB_KMS_DATA_DIR: '/data', PROGRESSDB_KMS_MASTER_KEY_FILE: '/k' });
  t.is(config.dataDir, undefined);
  t.is(config.masterKeyFile, undefined);
  t.false(config.strict);
  t.throws(() => resolveConfig({ dev: true, dataDir: '/d' }, {}), { code: 'INVALID_ARGUMENT', message: /--data-dir/ });
  t.throws(() => resolveConfig({ dev: true, ...KEY }, {}), { code: 'INVALID_ARGUMENT', message: /--master-key-file/ });
});

test('without a master key it refuses and says how to make one', (t) => {
  t.throws(() => resolveConfig({}, {}), { code: 'INVALID_ARGUMENT', message: /progressdb-kms init/ });
});

test('a group is a number or a name of the group file', (t) => {
  t.is(resolveConfig({ ...KEY, group: '27' }, {}).socketGroup, 27);
  t.throws(() => resolveConfig({ ...KEY, group: 'no such group' }, {}), { message: /--group/ });
});

const WRONG: Array<[title: string, flags: object, env: Record<string, string>, named: RegExp]> = [
  ['uids that are words', { allowedUids: 'alice' }, {}, /--allowed-uids/],
  ['uids with an empty item', { adminUids: '1,,2' }, {}, /--admin-uids/],
  ['a negative uid', { auditorUids: '-1' }, {}, /--auditor-uids/],
  ['the overflow uid', { allowedUids: '65534' }, {}, /--allowed-uids.*65534/],
  ['the uid that is none', { allowedUids: '4294967295' }, {}, /--allowed-uids/],
  ['wrong uids in the environment', {}, { PROGRESSDB_MINIKMS_ALLOWED_UIDS: '1;2' }, /PROGRESSDB_MINIKMS_ALLOWED_UIDS/],
  ['a socket path that is too long', { socket: `/${'x'.repeat(120)}` }, {}, /--socket/],
  ['an empty socket', { socket: '' }, {}, /--socket/],
  ['no keys cached', { cachedKeys: '0' }, {}, /--cached-keys/],
  ['a fraction', { keptContexts: 1.5 }, {}, /--kept-contexts/],
  ['a negative time', { keyIdleMs: '-1' }, {}, /--key-idle-ms/],
  ['a unit', { contextIdleMs: '10s' }, {}, /--context-idle-ms/],
  ['a spin that would not end', { spinUs: '10001' }, {}, /--spin-us/],
  ['a tiny arena', { arenaBytes: '4096' }, {}, /--arena-bytes/],
];
for (const [title, flags, env, named] of WRONG) {
  test(`${title}: one line that names the key`, (t) => {
    const error = t.throws(() => resolveConfig({ ...KEY, ...flags }, env), { code: 'INVALID_ARGUMENT' });
    t.regex(error?.message ?? '', named);
    t.false(error?.message.includes('\n'));
  });
}
