import type { ForwardTarget } from '../audit/forward/target.js';
import { KmsError } from '../errors.js';
import { FIRST_BYTE_TIMEOUT_MS, FRAME_TIMEOUT_MS, WRITE_STALL_TIMEOUT_MS } from '../limits.js';
import type { DataOperations } from '../native.js';
import type { StoreKind } from '../store/key-store.js';
import type { PostgresSettings } from '../store/postgres-settings.js';
import type { Role } from '../wire/frames.js';
import { type Effective, effective, type Shown } from './config/effective.js';
import type { HostPort } from './config/endpoint.js';
import { type OidcConfig, oidcOf } from './config/oidc.js';
import { postgresOf } from './config/postgres.js';
import type { Warning } from './config/setting.js';
import type { Access } from './identity.js';
import type { Level } from './log.js';
import type { RateLimits } from './rates.js';

export { DEFAULT_DATA_DIR, DEFAULT_SOCKET } from './defaults.js';
export type { HostPort, Shown, Warning };

/** Values as the command line gives them: they are parsed by the rules that hold for every source. */
export interface DaemonFlags {
  /** A YAML file. */
  config?: string | undefined;
  socket?: string | undefined;
  endpoint?: string | string[] | undefined;
  dataDir?: string | undefined;
  store?: string | undefined;
  postgresUrlFile?: string | undefined;
  postgresCaFile?: string | undefined;
  postgresSchema?: string | undefined;
  postgresConnections?: string | number | undefined;
  postgresStatementMs?: string | number | undefined;
  postgresStaleAfterMs?: string | number | undefined;
  masterKeyFile?: string | undefined;
  masterKeyFd?: string | number | undefined;
  parentFd?: string | number | undefined;
  /** An ephemeral master key and the memory store. */
  dev?: boolean | undefined;
  /** False: never make a new store. */
  init?: boolean | undefined;
  allowedUids?: string | undefined;
  adminUids?: string | undefined;
  auditorUids?: string | undefined;
  allowUnauthenticatedLoopback?: boolean | undefined;
  tlsCertFile?: string | undefined;
  tlsKeyFile?: string | undefined;
  tlsClientCaFile?: string | undefined;
  tlsCrlFile?: string | undefined;
  clientCertificates?: string | undefined;
  narrowed?: string | undefined;
  adminCertificates?: string | undefined;
  auditorCertificates?: string | undefined;
  unauthenticatedLoopbackRoles?: string | undefined;
  /** A group, by name or number, that may connect to the socket; its members' uids must be allowed as well. */
  group?: string | undefined;
  spinUs?: string | number | undefined;
  workers?: string | number | undefined;
  oidcIssuer?: string | undefined;
  oidcAudience?: string | string[] | undefined;
  oidcJwksFile?: string | undefined;
  oidcJwksUrl?: string | undefined;
  oidcAlgorithms?: string | undefined;
  oidcClockSkewSeconds?: string | number | undefined;
  oidcClientSubjects?: string | string[] | undefined;
  oidcAdminSubjects?: string | string[] | undefined;
  oidcAuditorSubjects?: string | string[] | undefined;
  oidcRolesClaim?: string | undefined;
  oidcPrefixesClaim?: string | undefined;
  cachedKeys?: string | number | undefined;
  keptContexts?: string | number | undefined;
  contextIdleMs?: string | number | undefined;
  keyIdleMs?: string | number | undefined;
  arenaBytes?: string | number | undefined;
  requestsPerSecond?: string | number | undefined;
  bytesPerSecond?: string | number | undefined;
  burstMs?: string | number | undefined;
  keysPerIdentity?: string | number | undefined;
  databasesPerIdentity?: string | number | undefined;
  keysPerDatabase?: string | number | undefined;
  auditDataOperations?: string | undefined;
  auditStrict?: boolean | undefined;
  auditContinueOnFailure?: boolean | undefined;
  auditAuditorKey?: string | undefined;
  auditMaxFileBytes?: string | number | undefined;
  auditForward?: string | string[] | undefined;
  auditForwardCaFile?: string | undefined;
  /** An audit log or keyring that is older than the other one is taken as it is, this once. */
  acceptRollback?: boolean | undefined;
  logFile?: string | undefined;
  logLevel?: string | undefined;
  tracing?: boolean | undefined;
  /** Started without a command, as the Go daemon is: where no endpoint is given, its own is listened on too. */
  asOriginal?: boolean | undefined;
  /** Logs `debug` unless a level is given. */
  verbose?: boolean | undefined;
}

/** Absolute paths of PEM files. */
export interface TlsFiles {
  /** The daemon's certificate, and those between it and its authority. */
  certFile: string;
  keyFile: string;
  /** Whose certificates clients may come with; without it none is asked for. */
  clientCaFile: string | undefined;
  /** With it, every issuer of a client's chain must have a revocation list in force. */
  crlFile: string | undefined;
}

/** How long a peer may keep us waiting, in milliseconds. */
export interface Timeouts {
  firstByteMs: number;
  /** From a frame's first byte to its last. */
  frameMs: number;
  /** With answers it does not take. */
  writeStallMs: number;
}

export interface DaemonConfig {
  /** Absolute path; undefined if a `--socket host:port` took its place. */
  socket: string | undefined;
  socketGroup: number | undefined;
  /** Addresses to listen on with TCP; beyond loopback with TLS. */
  endpoints: readonly HostPort[];
  /** How long the event loop does not sleep after a request of the binary protocol; 0 is not at all. */
  spinUs: number;
  /** Threads that serve the binary protocol; with 1 the main thread does. */
  workers: number;
  tls: TlsFiles | undefined;
  /** Absolute path; undefined with `dev`. */
  dataDir: string | undefined;
  /** Undefined for what the data directory holds. */
  store: StoreKind | PostgresSettings | undefined;
  /** At most one of the three is given, none with `dev`. */
  masterKeyFile: string | undefined;
  masterKeyFd: number | undefined;
  /** Wiped by the start. */
  masterKeyBytes: Uint8Array | undefined;
  /** A pipe whose end is that of the process that started us; undefined to outlive it. */
  parentFd: number | undefined;
  dev: boolean;
  initialise: boolean;
  /** Refuses unlocked memory and an inspector. */
  strict: boolean;
  access: Access;
  /** Whether TCP peers on loopback that nothing identifies are admitted, and as what. */
  allowUnauthenticatedLoopback: boolean;
  unauthenticatedLoopbackRoles: readonly Role[];
  /** Undefined where no issuer's tokens are taken. */
  oidc: OidcConfig | undefined;
  timeouts: Timeouts;
  cachedKeys: number;
  keptContexts: number;
  contextIdleMs: number;
  keyIdleMs: number;
  arenaBytes: number;
  /** Of each identity. */
  rates: RateLimits;
  /** 0 is any number. */
  keysPerIdentity: number;
  /** 0 is any number. */
  databasesPerIdentity: number;
  keysPerDatabase: number;
  auditDataOperations: DataOperations;
  /** Data operations are answered once their lines are durable; with `each`. */
  auditStrict: boolean;
  /** Data operations go on while the audit log cannot be written. */
  auditContinueOnFailure: boolean;
  auditAuditorKey: Uint8Array | undefined;
  auditMaxFileBytes: number;
  auditForward: readonly ForwardTarget[];
  /** Absolute path of the PEM file of those who sign the certificates of receivers. */
  auditForwardCaFile: string | undefined;
  acceptRollback: boolean;
  /** Rotations of which the records before are kept. */
  keepBackups: number;
  /** 0 is any number. */
  rotationKeysPerSecond: number;
  /** 0 is never. */
  rotationDueDays: number;
  /** Absolute path; undefined for standard error. */
  logFile: string | undefined;
  logLevel: Level;
  /** A span for each request that the native core does not answer at once, if an OpenTelemetry SDK is loaded. */
  tracing: boolean;
  /** Every value and where it is from, secrets as `(set)`. */
  shown: Shown[];
  warnings: Warning[];
}

function hasMasterKey({ masterKeyFile, masterKeyFd, masterKeyHex }: Effective): boolean {
  return masterKeyFile !== undefined || masterKeyFd !== undefined || masterKeyHex !== undefined;
}

function tlsFilesOf({ tlsCertFile, tlsKeyFile, tlsClientCaFile, tlsCrlFile }: Effective): TlsFiles | undefined {
  if (tlsCertFile === undefined || tlsKeyFile === undefined) return undefined;
  return { certFile: tlsCertFile, keyFile: tlsKeyFile, clientCaFile: tlsClientCaFile, crlFile: tlsCrlFile };
}

/** Flags over environment over file over defaults. Throws a KmsError of one line that names what is wrong and where it stands. */
export function resolveConfig(flags: DaemonFlags, env: NodeJS.ProcessEnv): DaemonConfig {
  const values = effective(flags, env);
  const dev = flags.dev === true;
  if (!dev && !hasMasterKey(values)) {
    throw new KmsError(
      'INVALID_ARGUMENT',
      '--master-key-file: no master key is given; make one with `progressdb-kms init --master-key-file FILE`, or use --dev to try things out',
    );
  }
  const {
    group,
    masterKeyHex,
    allowedUids,
    adminUids,
    auditorUids,
    requestsPerSecond,
    bytesPerSecond,
    burstMs,
    narrowed,
    ...same
  } = values;
  const { clientCertificates, adminCertificates, auditorCertificates } = values;
  return {
    ...same,
    store: values.store === 'postgres' ? postgresOf(values) : values.store,
    masterKeyFile: values.masterKeyFile,
    masterKeyFd: values.masterKeyFd,
    parentFd: values.parentFd,
    logFile: values.logFile,
    socketGroup: group,
    dataDir: dev ? undefined : values.dataDir,
    masterKeyBytes: masterKeyHex,
    tls: tlsFilesOf(values),
    dev,
    initialise: flags.init !== false,
    acceptRollback: flags.acceptRollback === true,
    auditAuditorKey: values.auditAuditorKey,
    auditForwardCaFile: values.auditForwardCaFile,
    strict: !dev,
    access: {
      allowedUids,
      adminUids,
      auditorUids,
      narrowed: Object.fromEntries(narrowed),
      certificates: { client: clientCertificates, admin: adminCertificates, auditor: auditorCertificates },
      unauthenticatedLoopbackRoles: values.allowUnauthenticatedLoopback ? values.unauthenticatedLoopbackRoles : [],
    },
    oidc: oidcOf(values),
    rates: { requestsPerSecond, bytesPerSecond, burstMs },
    timeouts: { firstByteMs: FIRST_BYTE_TIMEOUT_MS, frameMs: FRAME_TIMEOUT_MS, writeStallMs: WRITE_STALL_TIMEOUT_MS },
  };
}

/** What would hold, for people; without a master key too. */
export function showConfig(flags: DaemonFlags, env: NodeJS.ProcessEnv): Pick<Effective, 'shown' | 'warnings'> {
  const { shown, warnings, masterKeyHex } = effective(flags, env);
  masterKeyHex?.fill(0);
  return { shown, warnings };
}
