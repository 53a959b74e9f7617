import { MODES, type Mode, OPERATIONS, type Operation, type Plan, PROTOCOLS, type Protocol } from '../bench/plan.js';
import { parseAddress } from '../client/address.js';
import { MAX_BENCH_REQUESTS, MIN_BENCH_REQUESTS } from '../limits.js';
import { daemonAddressOf } from './address.js';
import type { BenchFlags } from './bench-flags.js';
import { CALLER_OPTIONS } from './caller-options.js';
import { Failure } from './failure.js';
import type { Settings } from './settings.js';

const KIB = 1024;
/** So many keys that a rotation takes long enough to be timed. */
const ROTATED_KEYS = 1_000;

const CLOSED = { inFlight: [1, 256], seconds: 0.25, repeats: 5 };
const OPEN = { inFlight: [256], seconds: 2, repeats: 3 };

/** What the options ask for, and whether of a daemon that runs already. Throws USAGE where they contradict each other. */
export function planOf(mode: string | undefined, flags: BenchFlags, settings: Settings): { plan: Plan; isExisting: boolean } {
  const isExisting = settings.address.from === 'flag';
  const modes = modesOf(mode, flags, isExisting);
  refuseUnused(modes, flags, settings, isExisting);
  const defaults = flags.rate === undefined ? CLOSED : OPEN;
  const isLoaded = isExisting || flags.rate !== undefined;
  const operations = flags.operations ?? (isLoaded ? (['encrypt', 'decrypt'] as const) : OPERATIONS);
  const { keys = 1, seconds = defaults.seconds, rate } = flags;
  if (isExisting) refuseMany(operations, keys);
  checkRate(rate, seconds, operations);
  const plan: Plan = {
    modes,
    operations,
    protocols: protocolsOf(flags, settings, isExisting),
    calls: flags.calls ?? ['sync'],
    sizes: { embedded: flags.size ?? [64, KIB, 64 * KIB], daemon: flags.size ?? [KIB] },
    inFlight: flags.inFlight ?? defaults.inFlight,
    connections: flags.connections ?? [1],
    keys,
    rotatedKeys: flags.keys ?? ROTATED_KEYS,
    store: flags.store ?? 'memory',
    seconds,
    warmUp: flags.warmUp ?? 0.2,
    repeats: flags.repeats ?? defaults.repeats,
    rate: rate ?? null,
    baseline: flags.baseline,
  };
  return { plan, isExisting };
}

function modesOf(given: string | undefined, { rate }: BenchFlags, isExisting: boolean): readonly Mode[] {
  if (given === undefined) return rate !== undefined || isExisting ? ['daemon'] : MODES;
  const mode = MODES.find((one) => one === given);
  if (mode === undefined) throw new Failure('USAGE', `unknown mode '${given}'`, 'it is embedded or daemon; both without one');
  if (mode === 'daemon') return [mode];
  if (isExisting) throw new Failure('USAGE', '--socket names a daemon, and embedded measures none');
  if (rate !== undefined) {
    throw new Failure('USAGE', '--rate is for a daemon: calls in the same process wait for nobody', 'bench daemon --rate N');
  }
  return [mode];
}

/** What would do nothing is not silently taken. */
function refuseUnused(modes: readonly Mode[], flags: BenchFlags, settings: Settings, isExisting: boolean): void {
  const only = (mode: Mode, names: Record<string, unknown>) => {
    const [name] = Object.keys(names).filter((one) => names[one] !== undefined);
    if (name !== undefined && !modes.includes(mode)) throw new Failure('USAGE', `${name} is for ${mode} mode`);
  };
  only('embedded', { '--calls': flags.calls, '--store': flags.store });
  only('daemon', { '--protocols': flags.protocols, '--connections': flags.connections });
  if (settings.dataDir.from === 'flag') {
    throw new Failure('USAGE', '--data-dir has no use here: bench makes a store of its own, and removes it');
  }
  const [file] = settings.callerFlags;
  const caller = file === undefined ? (settings.serverUids.length > 0 ? '--server-uids' : undefined) : CALLER_OPTIONS[file];
  if (caller !== undefined && !isExisting) throw new Failure('USAGE', `${caller} is for a daemon that --socket names`);
}

/** In a daemon that others use nothing is left behind but one destroyed key, and nothing is moved. */
function refuseMany(operations: readonly Operation[], keys: number): void {
  const hint = 'without --socket a daemon of its own is measured';
  const operation = operations.find((one) => one === 'create' || one === 'rotate');
  if (operation !== undefined) {
    const why = operation === 'create' ? 'its keys would stay there' : 'all its keys would move';
    throw new Failure('USAGE', `${operation} is not measured in a daemon that runs already: ${why}`, hint);
  }
  if (keys > 1) throw new Failure('USAGE', 'in a daemon that runs already one key is used, not more', hint);
}

function checkRate(rate: number | undefined, seconds: number, operations: readonly Operation[]): void {
  if (rate === undefined) return;
  const operation = operations.find((one) => one === 'create' || one === 'rotate');
  if (operation !== undefined) throw new Failure('USAGE', `--rate is for encrypt and decrypt, not for ${operation}`);
  if (rate * seconds > MAX_BENCH_REQUESTS) {
    const most = Math.floor(MAX_BENCH_REQUESTS / rate);
    throw new Failure(
      'USAGE',
      `--rate ${rate} for ${seconds} s is more than ${MAX_BENCH_REQUESTS} requests`,
      `--seconds ${most} is fewer`,
    );
  }
  if (rate * seconds >= MIN_BENCH_REQUESTS) return;
  const due = Math.ceil(rate * seconds);
  const least = Math.ceil(MIN_BENCH_REQUESTS / rate);
  const message = `--rate ${rate} for ${seconds} s is ${due === 1 ? '1 request' : `${due} requests`}, too few to say how long they take`;
  throw new Failure('USAGE', message, `--seconds ${least} would do`);
}

function protocolsOf(flags: BenchFlags, settings: Settings, isExisting: boolean): readonly Protocol[] {
  const protocols: readonly Protocol[] = flags.protocols ?? PROTOCOLS;
  if (!isExisting) return protocols;
  const { target, name } = daemonAddressOf(settings);
  if ('socket' in target) return protocols;
  const { protocol, place } = parseAddress(target.endpoint);
  const spoken = 'path' in place ? PROTOCOLS : [protocol];
  const missing = protocols.find((one) => !spoken.includes(one));
  if (flags.protocols !== undefined && missing !== undefined) {
    const scheme = missing === 'http' ? 'http:// or https://' : 'kms:// or kms+tls://';
    throw new Failure('USAGE', `${name} is not an address of the ${missing} protocol`, `one begins with ${scheme}`);
  }
  return protocols.filter((one) => spoken.includes(one));
}
