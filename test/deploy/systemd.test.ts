import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { textOf } from '../house/sources.js';
import { skipped } from '../secrets/scanner.js';
import { checkOptions, checkServes, someGroup } from './files.js';

const FOLDER = 'deploy/systemd';
const MAIN = resolve('dist/cli/main.js');
const SERVICE = textOf(`${FOLDER}/progressdb-kms.service`);
/** What `systemd-analyze security` gives the service at most, in tenths; 100 is a service without any protection. */
const MOST_EXPOSURE = 15;

/** The values of a directive, in their order. */
function valuesOf(unit: string, directive: string): string[] {
  return [...unit.matchAll(new RegExp(`^${directive}=(.*)$`, 'gm'))].map(([, value]) => value!);
}

function without(...tools: string[]): string | undefined {
  const missing = tools.find((tool) => spawnSync(tool, ['--version']).status !== 0);
  return missing === undefined ? undefined : `needs ${missing}`;
}

function scratch(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'kms-deploy-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** The units as they are, but for the program, which is not installed here. */
function units(t: ExecutionContext): string[] {
  const folder = scratch(t);
  const program = join(folder, 'progressdb-kms');
  writeFileSync(program, '#!/bin/sh\n');
  chmodSync(program, 0o755);
  return ['progressdb-kms.service', 'progressdb-kms.socket'].map((name) => {
    writeFileSync(join(folder, name), textOf(`${FOLDER}/${name}`).replace('ExecStart=progressdb-kms', `ExecStart=${program}`));
    return join(folder, name);
  });
}

test('systemd finds nothing wrong with the units', (t) => {
  if (skipped(t, without('systemd-analyze'))) return;
  const { status, stderr } = spawnSync('systemd-analyze', ['verify', ...units(t)], { encoding: 'utf8' });
  t.not(status, null);
  // It loads what the units need as well, and says what is wrong with the machine's own.
  t.deepEqual(
    stderr.split('\n').filter((line) => line.includes('progressdb-kms')),
    [],
  );
});

test('the service has no more rights than it needs, by the count of systemd', (t) => {
  if (skipped(t, without('systemd-analyze'))) return;
  const [service] = units(t);
  const args = ['security', '--offline=true', `--threshold=${MOST_EXPOSURE}`, '--no-pager', service!];
  const { status, stdout, stderr } = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
  if (skipped(t, /unrecognized option|unknown/i.test(stderr) ? 'needs systemd 250' : undefined)) return;
  t.is(status, 0, stdout);
});

test('the service keeps keys out of swap and core files, and is not what would break it', (t) => {
  const expected = {
    Type: 'notify',
    User: 'kms',
    LoadCredential: 'master-key:/etc/progressdb-kms/master.key',
    LimitMEMLOCK: '64M',
    MemorySwapMax: '0',
    LimitCORE: '0',
    NoNewPrivileges: 'yes',
    ProtectSystem: 'strict',
    RestrictAddressFamilies: 'AF_UNIX AF_INET AF_INET6 AF_NETLINK',
  };
  for (const [directive, value] of Object.entries(expected)) t.deepEqual(valuesOf(SERVICE, directive), [value], directive);
  for (const directive of ['MemoryDenyWriteExecute', 'PrivateUsers', 'ProcSubset', 'DynamicUser']) {
    t.deepEqual(valuesOf(SERVICE, directive), [], directive);
  }
});

test('the daemon knows every key of the configuration and every option of the service', (t) => {
  const folder = scratch(t);
  const config = join(folder, 'kms.yaml');
  writeFileSync(config, textOf(`${FOLDER}/kms.yaml`).replace('kms-clients', someGroup()), { mode: 0o640 });
  writeFileSync(join(folder, 'master-key'), '');
  const [command] = valuesOf(SERVICE, 'ExecStart');
  const args = command!.split(' ').slice(1);
  checkOptions(t, args);
  const here = args.map((arg) => (arg === '/etc/progressdb-kms/kms.yaml' ? config : arg));
  t.not(here.join(), args.join());
  checkServes(t, here, { CREDENTIALS_DIRECTORY: folder });
});

test('users, groups and folders are those that the units name', (t) => {
  const users = textOf(`${FOLDER}/sysusers.conf`);
  const folders = textOf(`${FOLDER}/tmpfiles.conf`);
  const socket = textOf(`${FOLDER}/progressdb-kms.socket`);
  for (const user of [...valuesOf(SERVICE, 'User'), ...valuesOf(socket, 'SocketUser')]) {
    t.regex(users, new RegExp(`^u ${user} `, 'm'));
  }
  for (const group of valuesOf(socket, 'SocketGroup')) t.regex(users, new RegExp(`^g ${group} `, 'm'));
  const made = [...folders.matchAll(/^d (\S+) /gm)].map(([, path]) => path);
  t.deepEqual(made, ['/etc/progressdb-kms', '/run/progressdb-kms', '/var/lib/progressdb-kms', '/var/lib/progressdb-kms/data']);
  t.true(textOf(`${FOLDER}/kms.yaml`).includes(`socket: ${valuesOf(socket, 'ListenStream')[0]}\n`));
});

/** The system calls of a set of systemd's, sets in it included. */
function expanded(set: string): string[] {
  const lines = execFileSync('systemd-analyze', ['syscall-filter', set], { encoding: 'utf8' }).split('\n').slice(1);
  const names = lines.map((line) => line.trim()).filter((name) => name !== '' && !name.startsWith('#'));
  return names.flatMap((name) => (name.startsWith('@') ? expanded(name) : [name]));
}

/** What the lines of SystemCallFilter leave, which each add or, with a tilde, take away. */
function allowedCalls(): Set<string> {
  const allowed = new Set<string>();
  for (const line of valuesOf(SERVICE, 'SystemCallFilter')) {
    const takes = line.startsWith('~');
    const names = line.replace('~', '').split(' ');
    for (const name of names.flatMap((one) => (one.startsWith('@') ? expanded(one) : [one]))) {
      if (takes) allowed.delete(name);
      else allowed.add(name);
    }
  }
  return allowed;
}

/** Serves in `folder` under strace, and does there what a daemon does in its life. Answers the names of all system calls. */
async function tracedCalls(t: ExecutionContext, folder: string): Promise<Set<string>> {
  mkdirSync(folder, { recursive: true });
  const at = (name: string) => join(folder, name);
  const env = { PATH: process.env['PATH'], PROGRESSDB_KMS_SOCKET: at('kms.sock') };
  const cli = (...args: string[]) => execFileSync(process.execPath, [MAIN, ...args], { env, encoding: 'utf8', cwd: folder });
  const store = ['--data-dir', at('data'), '--master-key-file', at('master.key')];
  cli('init', ...store);
  const serve = [MAIN, 'serve', '--no-init', ...store, '--group', String(process.getgid?.()), '--log-file', at('log')];
  const strace = spawn('strace', ['-f', '-qq', '-o', at('trace'), process.execPath, ...serve], { env, stdio: 'ignore' });
  const ended = new Promise((done) => strace.once('exit', done));
  t.teardown(() => strace.kill('SIGKILL'));
  const log = () => (existsSync(at('log')) ? readFileSync(at('log'), 'utf8') : '');
  const logged = async (event: string) => {
    for (let waited = 0; !log().includes(`"event":"${event}"`); waited += 50) {
      if (waited > 60_000 || strace.exitCode !== null) throw new Error(`no ${event}: ${log()}`);
      await new Promise((wake) => setTimeout(wake, 50));
    }
  };
  await logged('listening');
  const pid = Number(/"pid":(\d+)/.exec(log())?.[1]);
  const key = cli('create-dek').trim();
  writeFileSync(at('plain'), Buffer.alloc(3 << 20, 'text'));
  cli('encrypt', 'plain', '-o', 'sealed', '--key', key);
  cli('decrypt', 'sealed', '-o', 'copy');
  process.kill(pid, 'SIGHUP');
  await logged('reloaded');
  cli('seal');
  cli('unseal');
  process.kill(pid, 'SIGTERM');
  await ended;
  return new Set([...readFileSync(at('trace'), 'utf8').matchAll(/^\d+ +(?:<\.\.\. )?(\w+)[( ]/gm)].map(([, name]) => name!));
}

test('the daemon uses no system call that the service is not allowed', async (t) => {
  if (skipped(t, without('systemd-analyze') ?? (spawnSync('strace', ['-V']).status === 0 ? undefined : 'needs strace'))) return;
  const allowed = allowedCalls();
  const used = await tracedCalls(t, join(scratch(t), 'work'));
  for (const name of ['accept4', 'fsync', 'prctl']) t.true(used.has(name), `${name} is seen`);
  for (const name of ['memfd_secret', 'mlock', 'pkey_alloc', 'chown']) t.true(allowed.has(name), `${name} is allowed`);
  for (const name of ['mount', 'bpf', 'setuid', 'sched_setscheduler']) t.false(allowed.has(name), `${name} is not`);
  t.deepEqual(
    [...used].filter((name) => !allowed.has(name)),
    [],
  );
});
