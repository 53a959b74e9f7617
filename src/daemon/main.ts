import { url as inspectorUrl } from 'node:inspector';
import type { Forwarders } from '../audit/forward/forwarders.js';
import { readChecked } from '../checked-file.js';
import { createEmbeddedKms, type EmbeddedOptions } from '../create.js';
import { KmsError } from '../errors.js';
import { ownActor } from '../kms/calls.js';
import type { EmbeddedKms } from '../kms/embedded.js';
import { MAX_TLS_FILE_BYTES, STOP_GRACE_MS, TLS_EXPIRY_NOTICE_MS } from '../limits.js';
import { binding } from '../native.js';
import { nodeFileSystem } from '../store/file-system.js';
import { versionOfPackage } from '../version.js';
import { Accounts } from './accounts.js';
import { Authentication } from './authentication.js';
import { written } from './config/endpoint.js';
import type { DaemonConfig } from './config.js';
import { Counters } from './counters.js';
import { DEFAULT_SOCKET } from './defaults.js';
import { Denials } from './denials.js';
import { OVERFLOW_UID } from './identity.js';
import { takeInherited } from './inherited.js';
import { Listener } from './listener.js';
import { Burst, errorFields, Journal, type Log } from './log.js';
import type { Metrics } from './metrics/metrics.js';
import { Issuer } from './oidc/issuer.js';
import type { Service } from './operations.js';
import { parentGone } from './parent.js';
import { Policy } from './policy.js';
import { KeyQuota } from './quota.js';
import { reloaded } from './reload.js';
import { takeServiceManager } from './service-manager.js';
import type { Spans } from './spans.js';
import { Spin } from './spin.js';
import { checkMaterial, expiriesOf, type Material, readMaterial } from './tls/files.js';
import { systemClock, type TokenChange, Tokens } from './tokens.js';
import { Turnstile } from './turnstile.js';
import { Watch } from './watch.js';
import { Ledger } from './workers/ledger.js';
import { Pool, type WorkerSettings } from './workers/pool.js';

const RECOMMENDED_SOCKET = '/run/progressdb-kms/kms.sock';

export interface Daemon {
  readonly kms: EmbeddedKms;
  /** `''` where it listens on endpoints only. */
  readonly socket: string;
  /** Of the endpoints, in their order. */
  readonly ports: readonly number[];
  /** The threads that serve the binary protocol; undefined where the main thread does. */
  readonly workers: Pool | undefined;
  /** That have spoken and are open. */
  connections(): number;
  /** Makes ready what may change while it runs, and returns what takes it over. Throws, and nothing changes, if it cannot be had. */
  prepare(config: DaemonConfig): () => void;
  /** Accepts no more, finishes what is under way, wipes all keys, removes the socket. May be called again. */
  stop(): Promise<void>;
}

/**
 * Composes and starts the daemon; `inherited` listening sockets are served in place of the one of the configuration. Throws a
 * KmsError of one line if it must not or cannot run.
 */
export async function startDaemon(given: DaemonConfig, log: Log, inherited: readonly number[] = []): Promise<Daemon> {
  const config = inherited.length === 0 ? given : { ...given, socket: undefined };
  refuseUnsafeProcess(config.strict);
  binding.hardenProcess();
  const material = materialOf(config, log);
  const issuer = config.oidc === undefined ? undefined : new Issuer(config.oidc, log);
  const forwarders = await forwardersOf(config);
  const kms = await createEmbeddedKms(optionsOf(config, forwarders)).catch(async (error) => {
    await forwarders?.close();
    throw error;
  });
  const version = versionOfPackage();
  const spans = config.tracing ? await tracing(version, log) : undefined;
  let metrics: Promise<Metrics> | undefined;
  const counters = new Counters();
  const denials = new Denials(() => kms.audit);
  const workers = workersOf(config);
  const ledger = workers === 1 ? undefined : Ledger.beside(workers);
  const service: Service = {
    kms,
    log,
    watch: new Watch(counters, log, denials, spans),
    denials,
    isStrict: isStrict(config),
    metrics: () => {
      metrics ??= import('./metrics/metrics.js')
        .then((loaded) => new loaded.Metrics(service, listener))
        .catch((error) => {
          // Out of descriptors or memory for once: the next scrape tries again.
          metrics = undefined;
          throw error;
        });
      return metrics;
    },
    authentication: new Authentication(
      config.access,
      kms.dataDir === null ? undefined : new Tokens(kms.dataDir, systemClock, nodeFileSystem, (change) => noteToken(kms, change)),
      issuer,
    ),
    accounts: new Accounts(config.rates, log, (requests) => counters.refused('rate', requests), ledger),
    quota: new KeyQuota(config.keysPerIdentity, (cursor) => kms.glance(cursor)),
    policy: new Policy((keyId) => kms.describeKey(keyId)),
    failures: new Burst(log, 'error', 'request_failed'),
    keyStates: new Burst(log, 'info', 'key_state'),
    turnstile: new Turnstile(),
    timeouts: config.timeouts,
    spin: config.spinUs === 0 ? undefined : new Spin(config.spinUs / 1000),
    spaceChanged: () => pool?.tellSpace(),
    version,
    startedAt: performance.now(),
    connections: () => listener.size,
  };
  const pool = ledger === undefined ? undefined : new Pool(service, workers, ledger, workerSettingsOf(config));
  const listener = new Listener(service, material, pool);
  let ports: number[];
  try {
    await pool?.start();
    ports = listener.start({ ...config, inherited });
  } catch (error) {
    await pool?.stop();
    await kms.close();
    // It would try to reach its receivers for ever, and keep a process that serves nobody.
    await forwarders?.close();
    throw error;
  } finally {
    material?.key.fill(0);
  }
  announce(config, service, ports, inherited.length);
  let stopped: Promise<void> | undefined;
  const stop = async () => {
    log('info', 'stopping', { connections: listener.size });
    try {
      await listener.stop(STOP_GRACE_MS);
      await pool?.stop();
      denials.turn();
      (await metrics?.catch(() => undefined))?.close();
    } finally {
      // Whatever went wrong before, the keys are wiped.
      await kms.close();
      await forwarders?.close();
    }
    log('info', 'stopped');
  };
  return {
    kms,
    socket: config.socket ?? '',
    ports,
    workers: pool,
    connections: () => listener.size,
    prepare: (next) => {
      // First: an issuer that is renewed forgets what it remembered, which must not come of files that cannot be had.
      const replaced = materialOf(next, log);
      try {
        const issuer = service.authentication.issuerFor(next.oidc, log);
        return () => {
          listener.replaceAccess(next.access, issuer, replaced);
          replaced?.key.fill(0);
          service.accounts.replace(next.rates);
        };
      } catch (error) {
        replaced?.key.fill(0);
        throw error;
      }
    },
    stop: () => {
      stopped ??= stop();
      return stopped;
    },
  };
}

/** Where data operations are answered after their lines are on the disk, threads would only wait for one another. */
function workersOf(config: DaemonConfig): number {
  return isStrict(config) ? 1 : config.workers;
}

/** Not the rest of the configuration, of which parts are secret. */
function workerSettingsOf({ arenaBytes, keptContexts, timeouts, spinUs }: DaemonConfig): WorkerSettings {
  return { arenaBytes, keptContexts, timeouts, spinUs };
}

function isStrict({ auditStrict, auditDataOperations }: DaemonConfig): boolean {
  return auditStrict && auditDataOperations === 'each';
}

/** Throws before anything changes. */
function materialOf({ tls }: DaemonConfig, log: Log): Material | undefined {
  if (tls === undefined) return undefined;
  const material = readMaterial(tls);
  try {
    checkMaterial(material, tls);
  } catch (error) {
    material.key.fill(0);
    throw error;
  }
  for (const [file, end] of Object.entries(expiriesOf(material))) {
    if (end === undefined) continue;
    const isLate = end - Date.now() < TLS_EXPIRY_NOTICE_MS;
    log(isLate ? 'warn' : 'info', 'tls_file', { file, expires: new Date(end).toISOString() });
  }
  return material;
}

/**
 * Runs the daemon until SIGTERM or SIGINT, or the end of its parent if it watches that, and resolves to the exit code. A second
 * signal does not wait. On SIGHUP it takes over what may change of the configuration that `resolveAgain` then gives, and opens
 * its log file again.
 */
export async function runDaemon(config: DaemonConfig, resolveAgain: () => DaemonConfig): Promise<number> {
  const journal = new Journal(config);
  const { log } = journal;
  const signalled = new Promise<NodeJS.Signals>((resolve) => {
    let first = true;
    const onSignal = (signal: NodeJS.Signals) => {
      if (!first) {
        log('error', 'stopped_at_once', { signal });
        process.exit(1);
      }
      first = false;
      resolve(signal);
    };
    process.on('SIGTERM', onSignal);
    process.on('SIGINT', onSignal);
  });
  // Before the start, so that a hangup during it does not end the process; what it was sent for is read afterwards.
  let hangup = () => {
    hungUp = true;
  };
  let hungUp = false;
  process.on('SIGHUP', () => hangup());
  const manager = takeServiceManager(process.env, log);
  const orphaned = parentGone(config.parentFd);
  const daemon = await startDaemon(config, log, takeInherited(process.env));
  const reload = reloading(daemon, config, journal, resolveAgain);
  const ready = () => manager.ready(`serving${daemon.socket === '' ? '' : ` on ${daemon.socket}`}`);
  hangup = () => {
    manager.reloading();
    reload();
    ready();
  };
  manager.watch(() => daemon.kms.health());
  ready();
  if (hungUp) hangup();
  log('info', 'signal', { signal: await Promise.race([signalled, orphaned]) });
  // Whoever is stopping must not be said to be ready again.
  hangup = reload;
  manager.stopping();
  try {
    await daemon.stop();
    return 0;
  } catch (error) {
    log('error', 'stop_failed', errorFields(error));
    return 1;
  }
}

/** A configuration that cannot be had changes nothing: the daemon goes on with the one it has. */
function reloading(daemon: Daemon, first: DaemonConfig, journal: Journal, resolveAgain: () => DaemonConfig): () => void {
  let current = first;
  return () => {
    try {
      const next = resolveAgain();
      next.masterKeyBytes?.fill(0);
      const { config, changed, needsRestart } = reloaded(current, next);
      const takeOver = daemon.prepare(config);
      journal.replace(config);
      takeOver();
      current = config;
      warn(config, journal.log);
      journal.log('info', 'reloaded', { changed: changed.join(', '), needs_restart: needsRestart.join(', ') });
    } catch (error) {
      journal.log('error', 'reload_failed', errorFields(error));
    }
  };
}

function warn({ warnings }: DaemonConfig, log: Log): void {
  for (const { event, source, advice } of warnings) log('warn', event, { source, advice });
}

/** What would let others read our memory, or make us somebody everyone can be. */
function refuseUnsafeProcess(strict: boolean): void {
  if (process.geteuid?.() === OVERFLOW_UID) {
    throw new KmsError('PERMISSION_DENIED', `refuses to run as uid ${OVERFLOW_UID} (nobody): other services run as it too`);
  }
  const options = [...process.execArgv, ...(process.env['NODE_OPTIONS'] ?? '').split(/\s+/)];
  const inspecting = options.find((option) => /^--(inspect|debug)/.test(option));
  if (strict && (inspecting !== undefined || inspectorUrl() !== undefined)) {
    throw new KmsError('PERMISSION_DENIED', `refuses to run with an inspector (${inspecting ?? 'open'}), which reads all memory`);
  }
}

/** Loaded only where there is somebody to send to. */
async function forwardersOf({ auditForward, auditForwardCaFile }: DaemonConfig): Promise<Forwarders | undefined> {
  if (auditForward.length === 0) return undefined;
  const loaded = await import('../audit/forward/forwarders.js');
  const checked = { isSecret: false, maxBytes: MAX_TLS_FILE_BYTES };
  const authorities =
    auditForwardCaFile === undefined ? undefined : readChecked('--audit-forward-ca-file', auditForwardCaFile, checked);
  return new loaded.Forwarders(auditForward, authorities);
}

function optionsOf(config: DaemonConfig, forwarding: Forwarders | undefined): EmbeddedOptions {
  return {
    ...(config.dataDir === undefined ? {} : { dataDir: config.dataDir }),
    ...(config.store === undefined ? {} : { store: config.store }),
    ...(config.masterKeyFile === undefined ? {} : { masterKeyFile: config.masterKeyFile }),
    ...(config.masterKeyFd === undefined ? {} : { masterKeyFd: config.masterKeyFd }),
    ...(config.masterKeyBytes === undefined ? {} : { masterKeyBytes: config.masterKeyBytes }),
    memory: config.dev,
    initialise: config.initialise,
    strict: config.strict,
    arenaBytes: config.arenaBytes,
    keptContexts: config.keptContexts,
    contextIdleMs: config.contextIdleMs,
    cachedKeys: config.cachedKeys,
    keyIdleMs: config.keyIdleMs,
    audit: {
      dataOperations: config.auditDataOperations,
      continueOnFailure: config.auditContinueOnFailure,
      acceptRollback: config.acceptRollback,
      maxFileBytes: config.auditMaxFileBytes,
      ...(config.auditAuditorKey === undefined ? {} : { auditorKey: config.auditAuditorKey }),
      ...(forwarding === undefined ? {} : { forwarding }),
    },
    keepBackups: config.keepBackups,
    databasesPerIdentity: config.databasesPerIdentity,
    keysPerDatabase: config.keysPerDatabase,
    rotationKeysPerSecond: config.rotationKeysPerSecond,
    rotationDueDays: config.rotationDueDays,
  };
}

/** Loaded only where it is asked for. */
async function tracing(version: string, log: Log): Promise<Spans | undefined> {
  const { spansFor } = await import('./spans.js');
  const spans = spansFor(version);
  if (spans === undefined) {
    log('warn', 'tracing_without_sdk', { advice: 'load an OpenTelemetry SDK with node --import: no span is made' });
  }
  return spans;
}

/** Commands change the tokens; the log is the daemon's, which sees it when it looks at them the next time. False while it is sealed. */
function noteToken({ audit }: EmbeddedKms, { tokenId, change, roles, createdBy }: TokenChange): boolean {
  if (audit === undefined) return false;
  const detail = { token_id: tokenId, change, roles: roles.join(',') };
  audit.note({ type: 'token', actor: createdBy ?? ownActor(), outcome: 'ok', detail });
  return true;
}

function announce(config: DaemonConfig, { kms, log, version }: Service, ports: readonly number[], inherited: number): void {
  const { protection, arenaBytes } = binding.arenaInfo();
  warn(config, log);
  if (config.socket === DEFAULT_SOCKET) {
    log('warn', 'default_socket', {
      socket: config.socket,
      advice: `anyone may squat a name in /tmp; use --socket ${RECOMMENDED_SOCKET}`,
    });
  }
  if (config.dev)
    log('warn', 'dev_mode', { advice: 'the master key is ephemeral and nothing is stored: all keys end with this process' });
  if (protection === 'none') log('warn', 'memory_not_locked', { advice: 'raise RLIMIT_MEMLOCK: keys may reach the swap' });
  log('info', 'listening', {
    socket: config.socket,
    inherited: inherited === 0 ? undefined : inherited,
    endpoints: config.endpoints.map((one, index) => written({ ...one, port: ports[index] ?? one.port })).join(', ') || undefined,
    data_dir: kms.dataDir,
    version,
    pid: process.pid,
    uid: process.geteuid?.(),
    protection,
    arena_bytes: arenaBytes,
  });
}
