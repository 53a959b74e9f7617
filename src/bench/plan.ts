import type { CallerFiles } from '../client/caller-files.js';
import { MAX_BENCH_CONNECTIONS } from '../limits.js';
import type { Call, Pace } from './questions.js';
import type { MessageOperation } from './sealer.js';

export type Mode = 'embedded' | 'daemon';
export type Protocol = 'binary' | 'http';
export type Operation = MessageOperation | 'create' | 'rotate';
export type Form = 'sync' | 'into' | 'promise';

export const MODES: readonly Mode[] = ['embedded', 'daemon'];
export const PROTOCOLS: readonly Protocol[] = ['binary', 'http'];
export const OPERATIONS: readonly Operation[] = ['encrypt', 'decrypt', 'rotate', 'create'];
export const FORMS: readonly Form[] = ['sync', 'into', 'promise'];

/** A daemon that runs already, and the one key of ours in it. */
export interface Existing {
  name: string;
  endpoints: Partial<Record<Protocol, string>>;
  caller: CallerFiles;
  serverUids: readonly number[];
  keyId: string;
}

/** What is measured, and for how long. */
export interface Plan {
  modes: readonly Mode[];
  operations: readonly Operation[];
  protocols: readonly Protocol[];
  calls: readonly Form[];
  /** Bytes of a message. */
  sizes: Readonly<Record<Mode, readonly number[]>>;
  inFlight: readonly number[];
  connections: readonly number[];
  /** Keys that messages go to. */
  keys: number;
  /** Keys there are when a rotation is measured. */
  rotatedKeys: number;
  store: 'memory' | 'files';
  /** Of one block; warm-up comes once before the blocks of each row. */
  seconds: number;
  warmUp: number;
  /** Blocks of each row, in turn with those of its neighbours. */
  repeats: number;
  /** Requests per second that are due; null where each waits for one before. */
  rate: number | null;
  baseline: boolean;
}

/** Rows that are measured in turn, block by block. */
export interface Group {
  mode: Mode;
  operation: Operation;
  size: number | null;
  connections: number | null;
  inFlight: number | null;
  /** A way to call, a protocol, or the baseline. */
  subjects: readonly string[];
}

export const PLAIN_CRYPTO = 'node:crypto';
export const PLAIN_HTTP = 'node:http';

const CALLS: Record<MessageOperation, Record<Form, Call>> = {
  encrypt: { sync: 'encryptSync', into: 'encryptInto', promise: 'encryptWithDek' },
  decrypt: { sync: 'decryptSync', into: 'decryptInto', promise: 'decryptWithDek' },
};

export function groupsOf(plan: Plan, mode: Mode): Group[] {
  const operations = OPERATIONS.filter((operation) => plan.operations.includes(operation));
  return operations.flatMap((operation) => (mode === 'embedded' ? embeddedGroups : daemonGroups)(plan, operation));
}

function embeddedGroups({ sizes, calls, inFlight, baseline }: Plan, operation: Operation): Group[] {
  const none = { mode: 'embedded', operation, size: null, connections: null, inFlight: null } as const;
  if (operation === 'rotate') return [{ ...none, subjects: ['rotateKek'] }];
  if (operation === 'create') return inFlight.map((lanes) => ({ ...none, inFlight: lanes, subjects: ['createDek'] }));
  const ours = calls.map((form) => CALLS[operation][form]);
  return sizes.embedded.map((size) => ({ ...none, size, subjects: [...ours, ...(baseline ? [PLAIN_CRYPTO] : [])] }));
}

function daemonGroups({ sizes, protocols, connections, inFlight, baseline }: Plan, operation: Operation): Group[] {
  const none = { mode: 'daemon', operation, size: null, connections: null, inFlight: null } as const;
  if (operation === 'rotate') return [{ ...none, subjects: protocols.slice(0, 1) }];
  const shapes = connections.flatMap((count) => inFlight.map((lanes) => ({ connections: count, inFlight: lanes })));
  if (operation === 'create') return shapes.map((shape) => ({ ...none, ...shape, subjects: protocols }));
  const subjects = [...protocols, ...(baseline ? [PLAIN_HTTP] : [])];
  return sizes.daemon.flatMap((size) => shapes.map((shape) => ({ ...none, ...shape, size, subjects })));
}

/** Blocks of all groups, warm-ups too: what progress is counted in. */
export function blocksOf(groups: readonly Group[], { repeats, warmUp }: Plan): number {
  const each = ({ operation }: Group) => repeats + (isMessage(operation) && warmUp > 0 ? 1 : 0);
  return groups.reduce((sum, group) => sum + group.subjects.length * each(group), 0);
}

export function isMessage(operation: Operation): operation is MessageOperation {
  return operation === 'encrypt' || operation === 'decrypt';
}

/** Connections of a client over HTTP, where each request under way has its own. */
export function socketsOf({ connections, inFlight }: Group): number {
  return Math.min(MAX_BENCH_CONNECTIONS, (connections ?? 1) * (inFlight ?? 1));
}

/** With this many under way, operations of the binary protocol follow each other faster than a clock is read for little. */
const MANY = 64;
const TIMED_EACH = 16;

export function paceOf(
  { operation, connections, inFlight }: Group,
  subject: string,
  seconds: number,
  rate: number | null = null,
): Pace {
  const lanes = (connections ?? 1) * (inFlight ?? 1);
  const timedEach = subject === 'binary' && isMessage(operation) && lanes >= MANY ? TIMED_EACH : 1;
  return { seconds, lanes, timedEach, ...(rate === null || !isMessage(operation) ? {} : { rate }) };
}
