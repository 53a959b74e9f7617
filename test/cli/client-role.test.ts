import { execFileSync } from 'node:child_process';
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { resolveConfig } from '../../dist/daemon/config.js';
import type { Access } from '../../dist/daemon/identity.js';
import { type Daemon, startDaemon } from '../../dist/daemon/main.js';
import { FakeServer } from '../client/fake-server.js';
import { skipped } from '../secrets/scanner.js';
import { Stage } from './session.js';

const OWN = process.geteuid?.() ?? 0;
const SOMEBODY = 4_242;
const CLIENT: Access = { allowedUids: [OWN], adminUids: [SOMEBODY], auditorUids: [], unauthenticatedLoopbackRoles: [] };
const AUDITOR: Access = { allowedUids: [], adminUids: [SOMEBODY], auditorUids: [OWN], unauthenticatedLoopbackRoles: [] };

/** A daemon for whom our user is no more than `access` says, on the socket that the environment of the stage names. */
async function withDaemon(t: ExecutionContext, access: Access): Promise<{ stage: Stage; daemon: Daemon; dataDir: string }> {
  const stage = await Stage.make();
  t.teardown(() => stage.clear());
  await stage.run('progressdb-kms init --data-dir served --master-key-file served.key --socket none.sock');
  const at = (name: string) => join(stage.work, name);
  const dataDir = at('served');
  const config = resolveConfig({ dataDir, masterKeyFile: at('served.key'), socket: at('kms.sock') }, {});
  const daemon = await startDaemon({ ...config, access }, () => {});
  t.teardown(() => daemon.stop());
  return { stage, daemon, dataDir };
}

test.serial('a store that was named is never replaced by that of a daemon which does not tell its directory', async (t) => {
  const { stage, daemon } = await withDaemon(t, CLIENT);
  const own = '--data-dir own --master-key-file own.key';
  t.is((await stage.run(`progressdb-kms init ${own}`)).exit, 0);
  const sealed = await stage.run(`echo hello > f; progressdb-kms encrypt f -o f.sealed --verbose ${own}`);
  t.deepEqual(sealed, {
    exit: 0,
    stdout: '',
    stderr: `progressdb-kms: no daemon serves it: working on ${stage.work}/own itself\n`,
  });
  t.deepEqual((await daemon.kms.listKeys()).keys, [], 'the daemon was not asked to seal it');
  t.is((await stage.run(`progressdb-kms decrypt f.sealed ${own} --socket none.sock`)).stdout, 'hello\n');
  const both = await stage.run(`progressdb-kms create-dek ${own} --socket kms.sock`);
  t.is(both.exit, 23);
  t.regex(both.stderr, /does not serve .*\/own\n/);
});

test.serial('a directory that a client cannot see into is taken for that of the daemon', async (t) => {
  const { stage, daemon, dataDir } = await withDaemon(t, CLIENT);
  const { stdout } = await stage.run(`progressdb-kms create-dek --data-dir ${dataDir}-hidden`);
  t.deepEqual(
    (await daemon.kms.listKeys()).keys.map(({ keyId }) => `${keyId}\n`),
    [stdout],
  );
});

test.serial('a daemon that cannot say what it serves ends the command, and nothing is left open', async (t) => {
  const server = await new FakeServer().listen();
  t.teardown(() => server.remove());
  const stage = await Stage.make();
  t.teardown(() => stage.clear());
  server.onRequest = (request) => {
    if (request.op === 0) request.answer(1, 'fake', 'mlock', false);
    else request.fail(13, 'the key store is unavailable');
  };
  stage.env['PROGRESSDB_KMS_SOCKET'] = server.path;
  // A connection left open would keep the process, which is then ended by the time-out and has no exit code.
  const { exit, stderr } = await stage.run('timeout 60 progressdb-kms status --data-dir somewhere');
  t.is(exit, 21, stderr);
});

test.serial('doctor goes on for a client, who may not ask for the status', async (t) => {
  const { stage } = await withDaemon(t, CLIENT);
  const { exit, stdout, stderr } = await stage.run('progressdb-kms doctor --master-key-file served.key');
  t.is(stderr, '');
  t.regex(stdout, /^advice {2}daemon: cannot be looked at: permission denied: .*role auditor\n {8}mend: .*--auditor-uids \d+$/m);
  for (const check of ['socket', 'key-file', 'memory', 'key']) t.regex(stdout, new RegExp(`^ok {6}${check}: `, 'm'));
  t.regex(stdout, /^(ok {6}|advice {2})swap: /m);
  t.notRegex(stdout, /^\w+ +data-dir: /m, 'which directory that is was not told');
  t.is(exit, 0, stdout);
});

/** Why the command line cannot be run as root without root's right to read everything; undefined if it can. */
function blindingHindrance(): string | undefined {
  if (OWN !== 0) return 'needs root, so that the daemon can read what the command line cannot';
  try {
    execFileSync('setpriv', ['--version'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return 'needs setpriv of util-linux';
  }
}

test.serial('doctor goes on for an auditor, who may not look into the data directory', async (t) => {
  if (skipped(t, blindingHindrance())) return;
  const { stage, daemon, dataDir } = await withDaemon(t, AUDITOR);
  await daemon.kms.createDek();
  chmodSync(join(dataDir, 'kms-deks'), 0o000);
  const blind = 'setpriv --bounding-set=-dac_override,-dac_read_search';
  const { exit, stdout, stderr } = await stage.run(`${blind} progressdb-kms doctor`);
  t.is(stderr, '');
  t.regex(
    stdout,
    /^advice {2}data-dir: cannot be looked at: EACCES: .*kms-deks'\n {8}mend: sudo -u '#0' progressdb-kms doctor$/m,
  );
  for (const check of ['socket', 'memory', 'key', 'clock']) t.regex(stdout, new RegExp(`^ok {6}${check}: `, 'm'));
  t.is(exit, 0, stdout);
});
