import { existsSync } from 'node:fs';
import test from 'ava';
import { NAMES, placeOf } from '../../dist/daemon/config/schema.js';
import { textOf } from '../house/sources.js';
import { skipped } from '../secrets/scanner.js';
import { checkOptions, checkServes, type Data, documentsOf } from './files.js';

const DOCKERFILE = textOf('deploy/docker/Dockerfile').replace(/\\\n/g, ' ');
const [BASE] = documentsOf('deploy/docker/compose.yaml');
const [TLS] = documentsOf('deploy/docker/compose.tls.yaml');
const KNOWS_TLS = NAMES.some((name) => placeOf(name).flag === 'tls-cert-file') ? undefined : 'needs a daemon that speaks TLS';

/** The instructions of the last stage, and the values of one of them. */
const FINAL = DOCKERFILE.slice(DOCKERFILE.lastIndexOf('\nFROM '));
function finalOf(instruction: string): string[] {
  return [...FINAL.matchAll(new RegExp(`^${instruction} +(.*)$`, 'gm'))].map(([, value]) => value!);
}

const ENVIRONMENT = Object.fromEntries(
  finalOf('ENV')
    .flatMap((line) => line.trim().split(/\s+/))
    .map((pair) => pair.split('=', 2) as [string, string]),
);

/** Whether a command line opens a port to others only over TLS and to callers that prove who they are. */
function isGuarded(command: readonly string[]): boolean {
  const given = (option: string) => command.some((arg) => arg.startsWith(`${option}=`));
  const endpoints = command.filter((arg) => arg.startsWith('--endpoint='));
  return (
    endpoints.length > 0 &&
    endpoints.every((endpoint) => endpoint.startsWith('--endpoint=https://')) &&
    ['--tls-cert-file', '--tls-key-file', '--tls-client-ca-file', '--client-certificates'].every(given) &&
    !command.some((arg) => arg.startsWith('--allow-unauthenticated'))
  );
}

test('the image runs as a user of fixed number, without build tools, and is asked for its health', (t) => {
  t.deepEqual(finalOf('USER'), ['10001:10001']);
  t.regex(FINAL, /useradd --uid 10001/);
  t.notRegex(FINAL, /apt-get|g\+\+|python3|npm (ci|install|pack)/);
  t.regex(FINAL, /^FROM node:22-\w+-slim$/m);
  t.deepEqual(finalOf('STOPSIGNAL'), ['SIGTERM']);
  t.regex(finalOf('HEALTHCHECK').join(), /CMD progressdb-kms status --socket "\$PROGRESSDB_KMS_SOCKET"/);
});

test('the image is built from files that there are', (t) => {
  const wanted = textOf('deploy/docker/Dockerfile.dockerignore').matchAll(/^!(.+)$/gm);
  const names = [...wanted].map(([, name]) => name!);
  t.true(names.length > 8);
  for (const name of names) t.true(existsSync(name), name);
});

test('the daemon knows every option of the image and of the composition', (t) => {
  const [entry] = finalOf('ENTRYPOINT');
  t.is(entry, '["progressdb-kms"]');
  const env = { ...ENVIRONMENT, ...BASE.services.kms.environment };
  for (const command of [JSON.parse(finalOf('CMD')[0]!), BASE.services.kms.command]) {
    checkOptions(t, command);
    checkServes(t, command, env);
  }
});

test('the daemon knows every option of the composition with TLS', (t) => {
  if (skipped(t, KNOWS_TLS)) return;
  const { command } = TLS.services.kms;
  checkOptions(t, command);
  checkServes(t, command, { ...ENVIRONMENT, ...BASE.services.kms.environment });
});

test('a port is published only with TLS and authentication', (t) => {
  const services = [BASE, TLS].flatMap((document): Data[] => Object.values(document.services));
  const publishing = services.filter(({ ports }) => ports !== undefined);
  t.is(publishing.length, 1);
  for (const { command } of publishing) t.true(isGuarded(command));
  t.is(BASE.services.kms.network_mode, 'none');
  const { command } = TLS.services.kms;
  for (const left of command.filter((arg: string) => /^--(endpoint|tls-(cert|key|client)|client-cert)/.test(arg))) {
    t.false(isGuarded(command.filter((arg: string) => arg !== left)), `without ${left}`);
  }
});

test('the service of the composition has no rights, no swap and a file system that it cannot write', (t) => {
  const { kms } = BASE.services;
  t.true(kms.read_only);
  t.deepEqual(kms.cap_drop, ['ALL']);
  t.deepEqual(kms.security_opt, ['no-new-privileges:true']);
  t.is(kms.mem_limit, kms.memswap_limit);
  t.is(Number(kms.ulimits.core), 0);
  t.deepEqual(kms.volumes, ['data:/var/lib/progressdb-kms', 'socket:/run/progressdb-kms']);
  t.is(kms.environment.PROGRESSDB_KMS_MASTER_KEY_FILE, '/run/secrets/master-key');
  t.regex(BASE.volumes.socket.driver_opts.o, /^uid=10001,gid=10001,mode=0755/);
});
