import type { DaemonFlags } from '../config.js';
import { type HostPort, written } from './endpoint.js';
import { gather } from './layers.js';
import { credentialOf, inConfiguration, MASTER_KEYS, refuseTwoKeys, refuseWithDev } from './master-key.js';
import { refuseHalfOidc } from './oidc.js';
import { refuseHalfPostgres } from './postgres.js';
import { NAMES, type Name, placeOf, SCHEMA, titleOf, type Values } from './schema.js';
import { refusal, type Setting, type Warning } from './setting.js';
import { refuseHalfTls } from './tls.js';

/** Where a TCP listener is wanted. */
export interface Endpoint extends HostPort {
  source: string;
}

/** One value as people are shown it. */
export interface Shown {
  /** `log.level`, as in the file. */
  key: string;
  /** Null for none; `(set)` for a secret. */
  value: string | number | boolean | null | Array<string | number>;
  source: string;
  /** Taken over on SIGHUP. */
  live: boolean;
}

/** What holds: every value parsed, and where it is from. */
export interface Effective extends Omit<Values, 'socket' | 'endpoint'> {
  socket: string | undefined;
  endpoints: Endpoint[];
  shown: Shown[];
  warnings: Warning[];
}

const DEFAULT = 'default';
/** Where the Go daemon listens unless told: who starts ours in its place, with its flags, need not change the clients. */
const ORIGINAL_ENDPOINT: HostPort = { host: '127.0.0.1', port: 6820 };

type Settings = ReadonlyMap<Name, readonly Setting[]>;

/** Parses the strongest of each key. Throws the first of what is wrong, in one line that names its place. */
function parse(settings: Settings): Values {
  const strongest = (name: Name) => settings.get(name)?.[0];
  const parsed = SCHEMA.safeParse(Object.fromEntries(NAMES.map((name) => [name, strongest(name)?.given])));
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const name = issue?.path[0] as Name;
  throw refusal(strongest(name) as Setting, issue?.message ?? 'is not valid', placeOf(name).secret);
}

interface Socket {
  path: string | undefined;
  source: string;
  /** The host:port that was given for a socket. */
  endpoint: Endpoint | undefined;
}

/**
 * A `--socket host:port` adds an endpoint and takes the place of the default socket; a path that a weaker source gives is
 * still listened on.
 */
function socketOf(strongest: Values['socket'], [first, ...weaker]: readonly Setting[] = []): Socket {
  const source = first?.source ?? DEFAULT;
  if (typeof strongest === 'string') return { path: strongest, source, endpoint: undefined };
  const endpoint = { ...strongest, source };
  for (const setting of weaker) {
    const { socket } = parse(new Map([['socket', [setting]]]));
    if (typeof socket === 'string') return { path: socket, source: setting.source, endpoint };
  }
  return { path: undefined, source, endpoint };
}

/** An endpoint that is named twice is one. */
function endpointsOf(given: HostPort[], source: string, ofSocket: Endpoint | undefined, asOriginal: boolean): Endpoint[] {
  if (asOriginal && given.length === 0 && ofSocket === undefined) return [{ ...ORIGINAL_ENDPOINT, source: DEFAULT }];
  const all = given.map((one): Endpoint => ({ ...one, source }));
  if (ofSocket !== undefined) all.push(ofSocket);
  return all.filter((one, at) => all.findIndex(({ host, port }) => host === one.host && port === one.port) === at);
}

function shownValue(value: unknown): Shown['value'] {
  // A public key: secrets do not come here.
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64');
  return value === undefined ? null : (value as Shown['value']);
}

function chooseMasterKey(settings: Map<Name, Setting[]>, flags: DaemonFlags, env: NodeJS.ProcessEnv, warnings: Warning[]): void {
  if (flags.dev) {
    refuseWithDev(settings);
    for (const name of MASTER_KEYS) settings.delete(name);
    return;
  }
  refuseTwoKeys(settings);
  const hex = settings.get('masterKeyHex')?.[0];
  if (hex !== undefined) warnings.push(inConfiguration(hex));
  if (MASTER_KEYS.some((name) => settings.get(name)?.length)) return;
  const credential = credentialOf(env);
  if (credential !== undefined) settings.set('masterKeyFile', [credential]);
}

/** All that was given, laid over one another and parsed. Nothing is opened but the configuration file. */
export function effective(flags: DaemonFlags, env: NodeJS.ProcessEnv): Effective {
  const { settings, file, warnings } = gather(flags, env);
  chooseMasterKey(settings, flags, env, warnings);
  const values = parse(settings);
  const roles = settings.get('unauthenticatedLoopbackRoles')?.[0];
  if (roles !== undefined && !values.allowUnauthenticatedLoopback) {
    throw refusal(roles, 'means nothing without allow_unauthenticated_loopback: true', true);
  }
  refuseHalfOidc(settings, values);
  refuseHalfPostgres(settings, values);
  const sourceOf = (name: Name) => settings.get(name)?.[0]?.source ?? DEFAULT;
  const socket = socketOf(values.socket, settings.get('socket'));
  const endpoints = endpointsOf(values.endpoint, sourceOf('endpoint'), socket.endpoint, flags.asOriginal === true);
  refuseHalfTls(values, settings, endpoints);
  const shown = NAMES.map((name): Shown => {
    const { secret, live = false } = placeOf(name);
    const row = { key: titleOf(name), source: sourceOf(name), live };
    if (name === 'socket') return { ...row, value: shownValue(socket.path), source: socket.source };
    if (name === 'endpoint') return { ...row, value: endpoints.map(written), source: sourcesOf(endpoints) };
    // As it was written; what it comes to is no text.
    if (name === 'narrowed' || name === 'auditForward') return { ...row, value: [settings.get(name)?.[0]?.given ?? []].flat() };
    return { ...row, value: secret && values[name] !== undefined ? '(set)' : shownValue(values[name]) };
  });
  if (file !== undefined) shown.unshift({ key: '--config', value: String(file.given), source: file.source, live: false });
  const { endpoint: _, ...rest } = values;
  return { ...rest, socket: socket.path, endpoints, shown, warnings };
}

function sourcesOf(endpoints: Endpoint[]): string {
  return [...new Set(endpoints.map(({ source }) => source))].join(', ') || DEFAULT;
}
