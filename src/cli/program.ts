import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import type { DaemonFlags } from '../daemon/config.js';
import { MAX_TOKEN_DAYS } from '../limits.js';
import type { StoreKind } from '../store/key-store.js';
import { ROLES, type Role } from '../wire/frames.js';
import type { Act, Result } from './act.js';
import { addAudit } from './audit-program.js';
import { addCallerOptions, helpWithout, refuseCallerOptions } from './caller-options.js';
import type { ServeFlags } from './commands/serve.js';
import type { CreateTokenOptions } from './commands/token.js';
import { EXIT_USAGE, Failure, failureOf } from './failure.js';
import { Output } from './output.js';
import { addBench } from './program-bench.js';
import { addDatabases } from './program-databases.js';
import { addMasterKeys, addRotation } from './program-rotation.js';
import { addStorage } from './program-storage.js';
import { addThreads } from './program-threads.js';
import { type CommonFlags, databaseOf, type Settings, settingsOf } from './settings.js';
import { anyStoreOption } from './store-kind.js';

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
const UNITS = new Map([
  ['m', MINUTE_MS],
  ['h', 60 * MINUTE_MS],
  ['d', DAY_MS],
]);

/** Runs one command line (without node and script) and resolves with the exit code. */
export async function run(args: string[]): Promise<number> {
  const output = new Output(args.includes('--json'), args.includes('--verbose'));
  const exit = await perform(args, output);
  const loss = await output.loss();
  if (loss === undefined) return exit;
  output.failure(loss);
  return exit === 0 ? loss.exit : exit;
}

async function perform(args: string[], output: Output): Promise<number> {
  let exit = 0;
  const program = buildProgram(output, (code) => {
    exit = code;
  });
  try {
    const unknown = unknownCommand(program, args);
    if (unknown !== undefined) throw new Failure('USAGE', `unknown command '${unknown}'`, '`progressdb-kms --help` lists all');
    await program.parseAsync(spelledOut(program, args), { from: 'user' });
    return exit;
  } catch (error) {
    if (error instanceof CommanderError) return usageExit(error, output);
    const failure = failureOf(error);
    output.failure(failure);
    return failure.exit;
  }
}

function buildProgram(output: Output, setExit: (code: number) => void): Command {
  /** Commands that call no daemon. */
  const alone = new Set<Command>();
  const program = new Command('progressdb-kms')
    .description('A local, hardened key-management service. Without a command it serves.')
    .version(version(), '--version', 'print the version')
    .option('--socket <address>', 'socket or URL of the daemon (PROGRESSDB_KMS_ENDPOINT, PROGRESSDB_KMS_SOCKET)')
    .option('--data-dir <dir>', 'data directory (PROGRESSDB_KMS_DATA_DIR)')
    .option('--master-key-file <file>', 'master key file (PROGRESSDB_KMS_MASTER_KEY_FILE)')
    .option(
      '--kms-json <file>',
      'client file with kms_server_url and kms_database_secret (./kms.json, ~/.progressdb-kms/kms.json)',
    )
    .option('--server-uids <uids>', 'users the daemon may run as, beside yours and root', uids);
  addCallerOptions(program)
    .option('--json', 'print one JSON document')
    .option('--verbose', 'say on stderr what is done')
    .configureHelp(helpWithout((command) => alone.has(command)))
    // Errors are said by `run`, in the form of all others.
    .configureOutput({ outputError: () => {}, writeOut: (text) => output.data(text) })
    .exitOverride();

  /** Adds an action that gets the command's own options, the settings, and its arguments. */
  function act<Options>(command: Command, work: (options: Options, settings: Settings, args: string[]) => Result): void {
    command.action(async (...given: unknown[]) => {
      const own = given.at(-1) as Command;
      const settings = settingsOf(own.optsWithGlobals<CommonFlags>(), process.env);
      setExit((await work(own.optsWithGlobals<Options & CommonFlags>(), settings, own.args)) ?? 0);
    });
  }

  const actAlone: Act = (command, work) => {
    alone.add(command);
    act<Parameters<typeof work>[0]>(command, (options, settings, args) => {
      refuseCallerOptions(settings.callerFlags);
      return work(options, settings, args);
    });
  };

  addAlone(program, actAlone, output);
  addService(program, act, output);
  addData(program, act, output);
  addKeys(program, act, output);
  addRotation(program, act, output);
  addMasterKeys(program, actAlone, output);
  addTokens(program, actAlone, output);
  addAudit(program, actAlone, output);
  addStorage(program, act, actAlone, output);
  addDatabases(program, act, actAlone, output);
  addBench(program, act, actAlone, output);
  addThreads(program, act, output);
  return program;
}

function addAlone(program: Command, act: Act, output: Output): void {
  const init = program
    .command('init')
    .description('make a key store, and its master key file unless that exists')
    .addOption(
      anyStoreOption('what keeps the keys: files, one for each, lmdb, for millions, or postgres, for several daemons').env(
        'PROGRESSDB_KMS_STORE',
      ),
    )
    .option('--config <file>', 'make a configuration file for `serve`, too');
  act<{ store?: StoreKind | 'postgres'; config?: string; socket?: string }>(init, async ({ store, config, socket }, settings) => {
    const { initialise, reportInitialised } = await import('./commands/init.js');
    if (settings.masterKeyFile === undefined) {
      throw new Failure('USAGE', 'no master key file is given', 'name the file to make or use with --master-key-file FILE');
    }
    const wanted = config === undefined ? undefined : { path: resolve(config), socket: await socketToServe(socket) };
    const place = { dataDir: settings.dataDir.value, store: store === 'postgres' ? databaseOf(settings) : store };
    reportInitialised(await initialise(place, settings.masterKeyFile, wanted), output);
  });
  const serve = program
    .command('serve', { isDefault: true })
    .description('run the daemon until SIGTERM or SIGINT')
    .option('--config <file>', 'YAML file, which flags and environment override (PROGRESSDB_KMS_CONFIG)')
    .option('--check-config', 'only check the configuration, and open nothing')
    .option('--dev', 'with an ephemeral master key and no data directory')
    .option('--no-init', 'refuse an empty data directory instead of making a store')
    .option('--store <kind>', 'files, lmdb or postgres; what the data directory holds unless told')
    .option('--postgres-url-file <file>', 'with postgres: holds the URL of the database')
    .option('--postgres-ca-file <file>', 'authorities of its certificate, in PEM')
    .option('--postgres-schema <name>', 'where its tables are')
    .option('--postgres-connections <n>', 'to it at once')
    .option('--postgres-statement-ms <ms>', 'that one statement may take')
    .option('--postgres-stale-after-ms <ms>', 'after which keys are refused while nothing is heard from it')
    .option('--allowed-uids <uids>', 'users who may encrypt and decrypt, separated by commas')
    .option('--admin-uids <uids>', 'users who may do everything')
    .option('--auditor-uids <uids>', 'users who may read states and lists')
    .option('--endpoint <address>', 'listen on host:port of loopback or https://address:port, too; may be repeated', repeated)
    .option('--tls-cert-file <file>', 'certificate chain of the https endpoints, in PEM')
    .option('--tls-key-file <file>', 'and its key')
    .option('--tls-client-ca-file <file>', 'authorities of the certificates that clients may come with, in PEM')
    .option('--tls-crl-file <file>', 'their revocation lists, in PEM')
    .option('--client-certificates <names>', 'certificates that may encrypt and decrypt, as CN:app or URI:spiffe://…')
    .option('--admin-certificates <names>', 'certificates that may do everything')
    .option('--auditor-certificates <names>', 'certificates that may read states and lists')
    .option('--narrowed <identities>', 'what a user or certificate is for, as "uid:1000 own" or "cert:CN:app thread:chat/"')
    .option('--allow-unauthenticated-loopback', 'admit TCP peers on loopback that nothing identifies')
    .option('--unauthenticated-loopback-roles <roles>', 'as these instead of client')
    .option('--oidc-issuer <issuer>', 'take JWTs that this issuer signed')
    .option('--oidc-audience <audience>', 'and that are for this audience; may be repeated', repeated)
    .option('--oidc-jwks-file <file>', 'the keys of the issuer, a JWK set')
    .option('--oidc-jwks-url <url>', 'or where to fetch them')
    .option('--oidc-algorithms <names>', 'signatures that are taken, separated by commas')
    .option('--oidc-clock-skew-seconds <s>', 'how far its clock may be off')
    .option('--oidc-client-subjects <subjects>', 'whose tokens may encrypt and decrypt; may be repeated', repeated)
    .option('--oidc-admin-subjects <subjects>', 'whose tokens may do everything', repeated)
    .option('--oidc-auditor-subjects <subjects>', 'whose tokens may read states and lists', repeated)
    .option('--oidc-roles-claim <name>', 'claim that holds roles')
    .option('--oidc-prefixes-claim <name>', 'claim that holds the beginnings of the thread ids that a token is for')
    .option('--master-key-fd <n>', 'read the master key from this descriptor, 0 is standard input')
    .option('--parent-fd <n>', 'stop when the other end of this pipe is closed, as by the end of the parent')
    .option('--group <group>', 'group that may connect to the socket')
    .option('--spin-us <us>', 'time after each request in which the daemon does not sleep, 0 is none')
    .option('--workers <n>', 'threads that serve the binary protocol')
    .option('--cached-keys <n>', 'data keys kept unwrapped')
    .option('--key-idle-ms <ms>', 'time after which an unused one is wiped, 0 is never')
    .option('--kept-contexts <n>', 'keyed cipher contexts kept per thread, 0 is none')
    .option('--context-idle-ms <ms>', 'time after which an unused one is wiped, 0 is never')
    .option('--arena-bytes <n>', 'locked memory for keys')
    .option('--requests-per-second <n>', 'of each identity, an item of a batch counting as one; 0 is any number')
    .option('--bytes-per-second <n>', 'of each identity, that it may send; 0 is any number')
    .option('--burst-ms <ms>', 'for how long these are saved up while little is asked for')
    .option('--keys-per-identity <n>', 'that each may make, destroyed ones too; 0 is any number')
    .option('--databases-per-identity <n>', 'client-sealed databases that each may make; 0 is any number')
    .option('--keys-per-database <n>', 'keys of one database, destroyed ones too; 0 is any number')
    .option('--audit-data-operations <how>', 'lines of encryptions and decryptions in the audit log: grouped, each or off')
    .option('--audit-strict', 'with each: answer when the line is durable')
    .option('--audit-continue-on-failure', 'encrypt and decrypt also while the audit log cannot be written')
    .option('--audit-auditor-key <key>', 'public key of an auditor, who can then check every line')
    .option('--audit-max-file-bytes <n>', 'length at which another file of the audit log begins')
    .option('--audit-forward <url>', 'send each line there, too: syslog+unix:/path, syslog+tls://, https://…', repeated)
    .option('--audit-forward-ca-file <file>', 'authorities of the receivers, in PEM')
    .option('--accept-rollback', 'start although keyring or audit log is older than the other one')
    .option('--log-file <file>', 'log to this file instead of standard error')
    .option('--log-level <level>', 'debug, info, warn or error')
    .option('--tracing', 'make OpenTelemetry spans, where an SDK is loaded with node --import');
  act<ServeFlags>(serve, async (flags) => {
    const { serveCommand } = await import('./commands/serve.js');
    const asOriginal = program.args[0] !== serve.name();
    return await serveCommand({ ...flags, asOriginal }, process.env, output);
  });
  const config = program.command('config').description('look at the configuration of the daemon');
  const show = config
    .command('show')
    .description('show every value that holds, and where it is from')
    .option('--config <file>', 'YAML file (PROGRESSDB_KMS_CONFIG)');
  act<DaemonFlags>(show, async (flags) => {
    const { configCommand } = await import('./commands/config.js');
    configCommand(flags, process.env, output);
  });
}

function addService(program: Command, act: Act, output: Output): void {
  act(program.command('status').description('show the state of the service'), async (_, settings) => {
    const { statusCommand } = await import('./commands/status.js');
    return await statusCommand(settings, output);
  });
  for (const [verb, text] of [
    ['seal', 'wipe all keys of the running daemon'],
    ['unseal', 'let the running daemon read its master key again'],
  ] as const) {
    act(program.command(verb).description(text), async (_, settings) => {
      const { sealCommand } = await import('./commands/status.js');
      await sealCommand(verb, settings, output);
    });
  }
  act(program.command('doctor').description('look for what is wrong and name what mends it'), async (_, settings) => {
    const { doctorCommand } = await import('./commands/doctor.js');
    return await doctorCommand(settings, output);
  });
}

/** Where `serve` would listen: PROGRESSDB_KMS_ENDPOINT, which other commands go by, is not its. */
async function socketToServe(flag: string | undefined): Promise<string> {
  const { showConfig } = await import('../daemon/config.js');
  const { shown } = showConfig({ socket: flag }, { PROGRESSDB_KMS_SOCKET: process.env['PROGRESSDB_KMS_SOCKET'] });
  return String(shown.find(({ key }) => key === 'listen.socket')?.value ?? flag);
}

function addData(program: Command, act: Act, output: Output): void {
  const encrypt = program
    .command('encrypt [file]')
    .description('encrypt a file or standard input')
    .option('-o, --output <file>', 'write to a file, which appears when it is complete')
    .option('--key <key-id>', 'under this key instead of the default one');
  act<{ output?: string; key?: string }>(encrypt, async (options, settings, [file]) => {
    const { encryptCommand } = await import('./commands/crypt.js');
    await encryptCommand({ file, output: options.output, key: options.key }, settings, output);
  });
  const decrypt = program
    .command('decrypt [file]')
    .description('decrypt a file or standard input')
    .option('-o, --output <file>', 'write to a file, which appears when it is complete and genuine');
  act<{ output?: string }>(decrypt, async (options, settings, [file]) => {
    const { decryptCommand } = await import('./commands/crypt.js');
    await decryptCommand({ file, output: options.output }, settings, output);
  });
}

function addKeys(program: Command, act: Act, output: Output): void {
  const createDek = program
    .command('create-dek')
    .description('make a data key and print its id')
    .option('--thread <id>', 'for this thread')
    .option('--label <label>', 'for no thread, under this label, which is kept and listed as its thread id');
  act<{ thread?: string; label?: string }>(createDek, async (options, settings) => {
    const { createDekCommand } = await import('./commands/create-dek.js');
    await createDekCommand(options, settings, output);
  });
  const keys = program.command('keys').description('list and change data keys');
  const list = keys
    .command('list')
    .description('list keys: id, state, when made, thread')
    .option('--thread <id>', 'of this thread only')
    .option('--own', 'that you created, in the place of all')
    .option('--limit <n>', 'at most so many', atLeastOne);
  act<{ thread?: string; own?: boolean; limit?: number }>(list, async (options, settings) => {
    const { listCommand } = await import('./commands/keys.js');
    await listCommand(options, settings, output);
  });
  act(keys.command('show <key-id>').description('show what is known about a key'), async (_, settings, [keyId]) => {
    const { showCommand } = await import('./commands/keys.js');
    await showCommand(keyId as string, settings, output);
  });
  for (const [verb, text] of [
    ['disable', 'refuse a key until it is enabled again'],
    ['enable', 'allow a disabled key again'],
    ['destroy', 'destroy a disabled key: its data can never be read again'],
  ] as const) {
    const command = keys.command(`${verb} <key-id>`).description(text);
    if (verb === 'destroy') command.option('--yes', 'that is meant');
    act<{ yes?: boolean }>(command, async ({ yes }, settings, [keyId]) => {
      const { stateCommand } = await import('./commands/keys.js');
      await stateCommand(verb, keyId as string, yes === true, settings, output);
    });
  }
}

function addTokens(program: Command, act: Act, output: Output): void {
  const token = program.command('token').description('make, list and revoke access tokens of the daemon');
  const create = token
    .command('create')
    .description('make a token and print it, this once')
    .requiredOption('--role <role>', 'client, admin or auditor; several are separated by commas, or given one by one', roles)
    .option('--name <name>', 'what people know it by')
    .option('--expires-in <time>', 'as 90d or 12h, never unless given', lifetime)
    .option('--thread-prefix <prefix>', 'only keys of threads whose id begins so; may be given again', repeated)
    .option('--own', 'only keys that the token itself makes');
  act<CreateTokenOptions>(create, async (options, settings) => {
    const { createTokenCommand } = await import('./commands/token.js');
    await createTokenCommand(options, settings, output);
  });
  act(token.command('list').description('list tokens: id, name, roles, when made, expiry, limits'), async (_, settings) => {
    const { listTokensCommand } = await import('./commands/token.js');
    await listTokensCommand(settings, output);
  });
  act(token.command('revoke <token-id>').description('refuse a token from now on'), async (_, settings, [tokenId]) => {
    const { revokeTokenCommand } = await import('./commands/token.js');
    await revokeTokenCommand(tokenId as string, settings, output);
  });
}

function roles(text: string, before: Role[] = []): Role[] {
  const named = text.split(',');
  if (!named.every((name) => (ROLES as readonly string[]).includes(name)))
    throw new InvalidArgumentError('It must be client, admin or auditor.');
  return [...new Set([...before, ...(named as Role[])])];
}

function lifetime(text: string): number {
  const [, count, unit = ''] = /^([1-9]\d{0,7})([mhd])$/.exec(text) ?? [];
  const milliseconds = Number(count) * (UNITS.get(unit) ?? Number.NaN);
  if (milliseconds <= MAX_TOKEN_DAYS * DAY_MS) return milliseconds;
  throw new InvalidArgumentError(`It must be minutes, hours or days, as 30m, 12h or 90d, up to ${MAX_TOKEN_DAYS}d.`);
}

function repeated(text: string, before: string[] = []): string[] {
  return [...before, text];
}

function uids(text: string): number[] {
  if (!/^\d{1,10}(,\d{1,10})*$/.test(text)) throw new InvalidArgumentError('It must be user ids, separated by commas.');
  return text.split(',').map(Number);
}

function atLeastOne(text: string): number {
  if (!/^[1-9]\d{0,14}$/.test(text)) throw new InvalidArgumentError('It must be a whole number from 1.');
  return Number(text);
}

/** The first word that is no option, if it is no command: `serve` is the default one and would take it for an argument. */
function unknownCommand(program: Command, args: string[]): string | undefined {
  const { operands } = program.parseOptions(args);
  const [first] = operands;
  const known = first === undefined || first === 'help' || program.commands.some((command) => command.name() === first);
  return known ? undefined : first;
}

/** `help audit verify` as `audit verify --help`: commander's own `help` goes by one word, and shows what stands above. */
function spelledOut(program: Command, args: string[]): string[] {
  const [first, ...words] = program.parseOptions(args).operands;
  return first === 'help' && words.length > 1 ? [...words, '--help'] : args;
}

/** Commander's own words in our form: no capitals, no full stop, suggestions as a hint. */
function usageExit(error: CommanderError, output: Output): number {
  if (error.exitCode === 0) return 0;
  // The help was asked for by leaving a word out, and is on stderr already.
  if (error.code === 'commander.help') return EXIT_USAGE;
  const [message = '', suggestion] = error.message.replace(/^error: /, '').split('\n');
  const joined = (_: string, word: string) => `: ${word.toLowerCase()}`;
  const plain = (text: string) =>
    text
      .replace(/\. (It|Expected)/, joined)
      .replace(/[.)]+$/, '')
      .replace(/^\(D/, 'd');
  output.failure(new Failure('USAGE', plain(message), suggestion === undefined ? undefined : plain(suggestion)));
  return EXIT_USAGE;
}

function version(): string {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  return String(version);
}
