import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { z } from 'zod';
import {
  DEFAULT_ARENA_BYTES,
  DEFAULT_AUDIT_FILE_BYTES,
  DEFAULT_BURST_MS,
  DEFAULT_CACHED_KEYS,
  DEFAULT_CONTEXT_IDLE_MS,
  DEFAULT_DATABASE_CONNECTIONS,
  DEFAULT_DATABASES_PER_IDENTITY,
  DEFAULT_KEEP_BACKUPS,
  DEFAULT_KEPT_CONTEXTS,
  DEFAULT_KEY_IDLE_MS,
  DEFAULT_KEYS_PER_DATABASE,
  DEFAULT_SCHEMA,
  DEFAULT_STALE_AFTER_MS,
  DEFAULT_STATEMENT_MS,
  KEK_DUE_DAYS,
  MAX_DATABASE_CONNECTIONS,
  MAX_KEYS_PER_SECOND,
  MAX_SPIN_US,
  MAX_STALE_AFTER_MS,
  MAX_TIMER_MS,
  MAX_WORKERS,
  MIN_STALE_AFTER_MS,
  MIN_STATEMENT_MS,
} from '../../limits.js';
import { DEFAULT_DATA_DIR, DEFAULT_SOCKET } from '../defaults.js';
import { forwardTargets } from './audit-values.js';
import { algorithms, audiences, claimName, issuer, keysUrl, subjects } from './oidc-values.js';
import {
  certificateNames,
  count,
  dataOperations,
  descriptor,
  endpoints,
  flag,
  group,
  hexKey,
  keyFile,
  level,
  narrowings,
  one,
  path,
  publicKey,
  roles,
  schemaName,
  socket,
  storeKind,
  uids,
} from './values.js';

/** Where a value may come from, beside its default. */
export interface Place {
  /** Its names in the file, the preferred one first. Those without a section may also stand below `security.kms`. */
  yaml?: readonly string[];
  /** As on the command line, without the dashes. */
  flag?: string;
  variables?: readonly string[];
  /** Never shown and never repeated. */
  secret?: true;
  /** Taken over on SIGHUP. */
  live?: true;
}

export const PLACES = z.registry<Place>();

/** The whole configuration: every key with its rule, its default, and where it may stand. */
export const SCHEMA = z.object({
  socket: socket.default(DEFAULT_SOCKET).register(PLACES, {
    yaml: ['listen.socket', 'socket'],
    flag: 'socket',
    variables: ['PROGRESSDB_KMS_SOCKET'],
  }),
  // PROGRESSDB_KMS_ENDPOINT is not among its places: it says where clients connect.
  endpoint: endpoints.default([]).register(PLACES, { yaml: ['listen.endpoints', 'endpoint'], flag: 'endpoint' }),
  group: group.optional().register(PLACES, { yaml: ['listen.group'], flag: 'group' }),
  spinUs: count(0, MAX_SPIN_US)
    .default(0)
    .register(PLACES, { yaml: ['listen.spin_us'], flag: 'spin-us' }),
  workers: count(1, MAX_WORKERS)
    .default(() => Math.min(Math.max(1, availableParallelism() - 1), MAX_WORKERS))
    .register(PLACES, { yaml: ['workers'], flag: 'workers', variables: ['PROGRESSDB_KMS_WORKERS'] }),
  dataDir: path
    .default(() => resolve(DEFAULT_DATA_DIR))
    .register(PLACES, { yaml: ['data_dir'], flag: 'data-dir', variables: ['PROGRESSDB_KMS_DATA_DIR'] }),
  store: storeKind.optional().register(PLACES, { yaml: ['store'], flag: 'store', variables: ['PROGRESSDB_KMS_STORE'] }),
  postgresUrl: one.optional().register(PLACES, {
    yaml: ['postgres.url'],
    variables: ['PROGRESSDB_KMS_POSTGRES_URL'],
    secret: true,
  }),
  postgresUrlFile: path.optional().register(PLACES, {
    yaml: ['postgres.url_file'],
    flag: 'postgres-url-file',
    variables: ['PROGRESSDB_KMS_POSTGRES_URL_FILE'],
  }),
  postgresCaFile: path.optional().register(PLACES, {
    yaml: ['postgres.ca_file'],
    flag: 'postgres-ca-file',
    variables: ['PROGRESSDB_KMS_POSTGRES_CA_FILE'],
  }),
  postgresSchema: schemaName.default(DEFAULT_SCHEMA).register(PLACES, {
    yaml: ['postgres.schema'],
    flag: 'postgres-schema',
    variables: ['PROGRESSDB_KMS_POSTGRES_SCHEMA'],
  }),
  postgresConnections: count(1, MAX_DATABASE_CONNECTIONS)
    .default(DEFAULT_DATABASE_CONNECTIONS)
    .register(PLACES, { yaml: ['postgres.connections'], flag: 'postgres-connections' }),
  postgresStatementMs: count(MIN_STATEMENT_MS, MAX_TIMER_MS)
    .default(DEFAULT_STATEMENT_MS)
    .register(PLACES, { yaml: ['postgres.statement_ms'], flag: 'postgres-statement-ms' }),
  postgresStaleAfterMs: count(MIN_STALE_AFTER_MS, MAX_STALE_AFTER_MS)
    .default(DEFAULT_STALE_AFTER_MS)
    .register(PLACES, { yaml: ['postgres.stale_after_ms'], flag: 'postgres-stale-after-ms' }),
  masterKeyFile: keyFile.optional().register(PLACES, {
    yaml: ['master_key_file'],
    flag: 'master-key-file',
    variables: ['PROGRESSDB_KMS_MASTER_KEY_FILE', 'PROGRESSDB_MINIKMS_MASTER_KEY_FILE'],
  }),
  masterKeyFd: descriptor.optional().register(PLACES, { flag: 'master-key-fd' }),
  masterKeyHex: hexKey.optional().register(PLACES, {
    yaml: ['master_key_hex', 'master_key'],
    variables: ['PROGRESSDB_KMS_MASTER_KEY_HEX', 'PROGRESSDB_MINIKMS_MASTER_KEY'],
    secret: true,
  }),
  parentFd: descriptor.optional().register(PLACES, { flag: 'parent-fd' }),
  allowedUids: uids.default([]).register(PLACES, {
    yaml: ['auth.allowed_uids', 'allowed_uids'],
    flag: 'allowed-uids',
    variables: ['PROGRESSDB_MINIKMS_ALLOWED_UIDS'],
    live: true,
  }),
  adminUids: uids.default([]).register(PLACES, { yaml: ['auth.admin_uids', 'admin_uids'], flag: 'admin-uids', live: true }),
  auditorUids: uids
    .default([])
    .register(PLACES, { yaml: ['auth.auditor_uids', 'auditor_uids'], flag: 'auditor-uids', live: true }),
  allowUnauthenticatedLoopback: flag.default(false).register(PLACES, {
    yaml: ['auth.allow_unauthenticated_loopback', 'allow_unauthenticated_loopback'],
    flag: 'allow-unauthenticated-loopback',
  }),
  unauthenticatedLoopbackRoles: roles.default(['client']).register(PLACES, {
    yaml: ['auth.unauthenticated_loopback_roles', 'unauthenticated_loopback_roles'],
    flag: 'unauthenticated-loopback-roles',
    live: true,
  }),
  tlsCertFile: path.optional().register(PLACES, { yaml: ['tls.cert_file'], flag: 'tls-cert-file', live: true }),
  tlsKeyFile: path.optional().register(PLACES, { yaml: ['tls.key_file'], flag: 'tls-key-file', live: true }),
  tlsClientCaFile: path.optional().register(PLACES, { yaml: ['tls.client_ca_file'], flag: 'tls-client-ca-file', live: true }),
  tlsCrlFile: path.optional().register(PLACES, { yaml: ['tls.crl_file'], flag: 'tls-crl-file', live: true }),
  clientCertificates: certificateNames
    .default([])
    .register(PLACES, { yaml: ['auth.client_certificates'], flag: 'client-certificates', live: true }),
  adminCertificates: certificateNames
    .default([])
    .register(PLACES, { yaml: ['auth.admin_certificates'], flag: 'admin-certificates', live: true }),
  auditorCertificates: certificateNames
    .default([])
    .register(PLACES, { yaml: ['auth.auditor_certificates'], flag: 'auditor-certificates', live: true }),
  narrowed: narrowings.default([]).register(PLACES, { yaml: ['auth.narrowed'], flag: 'narrowed', live: true }),
  oidcIssuer: issuer.optional().register(PLACES, { yaml: ['oidc.issuer'], flag: 'oidc-issuer', live: true }),
  oidcAudience: audiences.default([]).register(PLACES, { yaml: ['oidc.audience'], flag: 'oidc-audience', live: true }),
  oidcJwksFile: path.optional().register(PLACES, { yaml: ['oidc.jwks_file'], flag: 'oidc-jwks-file', live: true }),
  oidcJwksUrl: keysUrl.optional().register(PLACES, { yaml: ['oidc.jwks_url'], flag: 'oidc-jwks-url', live: true }),
  oidcAlgorithms: algorithms
    .default(['RS256', 'PS256', 'ES256', 'EdDSA'])
    .register(PLACES, { yaml: ['oidc.algorithms'], flag: 'oidc-algorithms', live: true }),
  oidcClockSkewSeconds: count(0, 300)
    .default(60)
    .register(PLACES, { yaml: ['oidc.clock_skew_seconds'], flag: 'oidc-clock-skew-seconds', live: true }),
  oidcClientSubjects: subjects
    .default([])
    .register(PLACES, { yaml: ['oidc.client_subjects'], flag: 'oidc-client-subjects', live: true }),
  oidcAdminSubjects: subjects
    .default([])
    .register(PLACES, { yaml: ['oidc.admin_subjects'], flag: 'oidc-admin-subjects', live: true }),
  oidcAuditorSubjects: subjects
    .default([])
    .register(PLACES, { yaml: ['oidc.auditor_subjects'], flag: 'oidc-auditor-subjects', live: true }),
  oidcRolesClaim: claimName.optional().register(PLACES, { yaml: ['oidc.roles_claim'], flag: 'oidc-roles-claim', live: true }),
  oidcPrefixesClaim: claimName
    .optional()
    .register(PLACES, { yaml: ['oidc.prefixes_claim'], flag: 'oidc-prefixes-claim', live: true }),
  cachedKeys: count(1, 10_000_000)
    .default(DEFAULT_CACHED_KEYS)
    .register(PLACES, { yaml: ['cache.cached_keys'], flag: 'cached-keys' }),
  keptContexts: count(0, 65_536)
    .default(DEFAULT_KEPT_CONTEXTS)
    .register(PLACES, { yaml: ['cache.kept_contexts'], flag: 'kept-contexts' }),
  contextIdleMs: count(0, MAX_TIMER_MS)
    .default(DEFAULT_CONTEXT_IDLE_MS)
    .register(PLACES, { yaml: ['cache.context_idle_ms'], flag: 'context-idle-ms' }),
  keyIdleMs: count(0, MAX_TIMER_MS)
    .default(DEFAULT_KEY_IDLE_MS)
    .register(PLACES, { yaml: ['cache.key_idle_ms'], flag: 'key-idle-ms' }),
  arenaBytes: count(64 * 1024, 2 ** 31)
    .default(DEFAULT_ARENA_BYTES)
    .register(PLACES, { yaml: ['cache.arena_bytes'], flag: 'arena-bytes' }),
  requestsPerSecond: count(0, 10_000_000)
    .default(0)
    .register(PLACES, { yaml: ['limits.requests_per_second'], flag: 'requests-per-second', live: true }),
  bytesPerSecond: count(0, 10 ** 12)
    .default(0)
    .register(PLACES, { yaml: ['limits.bytes_per_second'], flag: 'bytes-per-second', live: true }),
  burstMs: count(0, 60_000)
    .default(DEFAULT_BURST_MS)
    .register(PLACES, { yaml: ['limits.burst_ms'], flag: 'burst-ms', live: true }),
  keysPerIdentity: count(0, 1_000_000_000)
    .default(0)
    .register(PLACES, { yaml: ['limits.keys_per_identity'], flag: 'keys-per-identity' }),
  databasesPerIdentity: count(0, 1_000_000_000)
    .default(DEFAULT_DATABASES_PER_IDENTITY)
    .register(PLACES, { yaml: ['limits.databases_per_identity'], flag: 'databases-per-identity' }),
  keysPerDatabase: count(0, 1_000_000_000)
    .default(DEFAULT_KEYS_PER_DATABASE)
    .register(PLACES, { yaml: ['limits.keys_per_database'], flag: 'keys-per-database' }),
  auditDataOperations: dataOperations
    .default('grouped')
    .register(PLACES, { yaml: ['audit.data_operations'], flag: 'audit-data-operations' }),
  auditStrict: flag.default(false).register(PLACES, { yaml: ['audit.strict'], flag: 'audit-strict' }),
  auditContinueOnFailure: flag
    .default(false)
    .register(PLACES, { yaml: ['audit.continue_on_failure'], flag: 'audit-continue-on-failure' }),
  auditAuditorKey: publicKey.optional().register(PLACES, { yaml: ['audit.auditor_key'], flag: 'audit-auditor-key' }),
  auditMaxFileBytes: count(1024 * 1024, 2 ** 40)
    .default(DEFAULT_AUDIT_FILE_BYTES)
    .register(PLACES, { yaml: ['audit.max_file_bytes'], flag: 'audit-max-file-bytes' }),
  auditForward: forwardTargets.default([]).register(PLACES, { yaml: ['audit.forward'], flag: 'audit-forward' }),
  auditForwardCaFile: path.optional().register(PLACES, { yaml: ['audit.forward_ca_file'], flag: 'audit-forward-ca-file' }),
  keepBackups: count(0, 1_000)
    .default(DEFAULT_KEEP_BACKUPS)
    .register(PLACES, { yaml: ['rotation.keep_backups'] }),
  rotationKeysPerSecond: count(0, MAX_KEYS_PER_SECOND)
    .default(0)
    .register(PLACES, { yaml: ['rotation.keys_per_second'] }),
  rotationDueDays: count(0, 36_500)
    .default(KEK_DUE_DAYS)
    .register(PLACES, { yaml: ['rotation.due_days'] }),
  logFile: path.optional().register(PLACES, { yaml: ['log.file', 'log_file'], flag: 'log-file', live: true }),
  logLevel: level.default('info').register(PLACES, { yaml: ['log.level'], flag: 'log-level', live: true }),
  tracing: flag.default(false).register(PLACES, { yaml: ['log.tracing'], flag: 'tracing' }),
});

export type Values = z.output<typeof SCHEMA>;
export type Name = keyof Values;

export const NAMES = Object.keys(SCHEMA.shape) as Name[];

export function placeOf(name: Name): Place {
  return PLACES.get(SCHEMA.shape[name]) ?? {};
}

/** How a key is called for people: as in the file, or as a flag if it may not stand there. */
export function titleOf(name: Name): string {
  const { yaml, flag } = placeOf(name);
  return yaml?.[0] ?? `--${flag}`;
}
