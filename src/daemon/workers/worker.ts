import { parentPort, workerData } from 'node:worker_threads';
import { KmsError } from '../../errors.js';
import { SWEEP_INTERVAL_MS } from '../../limits.js';
import { binding } from '../../native.js';
import { SharedBuffers } from '../buffers.js';
import { Connection } from '../connection.js';
import type { Log } from '../log.js';
import type { Beginning, Order, Told, Word } from './crossing.js';
import { Forwarded } from './forwarded.js';
import { Gathering } from './tidings.js';
import { WorkerGround } from './worker-ground.js';

/** A connection of this thread, and what the main thread has of it; the latter may outlive it. */
interface Kept {
  connection: Connection;
  forwarded: Forwarded;
  isClosed: boolean;
}

const port = parentPort!;
const beginning = workerData as Beginning;
const say = (word: Word, moved: ArrayBuffer[] = []): void => port.postMessage(word, moved);
const log: Log = (level, event, fields) => say({ kind: 'log', level, event, fields });
const gathering = new Gathering((tidings) => say({ kind: 'tidings', ...tidings }));

// Joins the arena and the table that the main thread has made.
binding.initialise(beginning.arenaBytes, beginning.keptContexts);
const ground = new WorkerGround(beginning, log, gathering);
const buffers = new SharedBuffers();
const connections = new Map<number, Kept>();

function open(number: number, fd: number, told: Told): void {
  const events = { onKnown: () => {}, onClose: () => closed(number) };
  let forwarded: Forwarded | undefined;
  let connection: Connection;
  try {
    connection = new Connection({ fd }, ground, buffers, ground.identityOf(told), events, (self, outlet) => {
      forwarded = new Forwarded(number, self, outlet, ground.watch.counters, say, (settled) => ground.settle(settled));
      return forwarded;
    });
  } catch {
    say({ kind: 'refused', connection: number });
    return;
  }
  connections.set(number, { connection, forwarded: forwarded!, isClosed: false });
  say({ kind: 'opened', connection: number });
}

function closed(number: number): void {
  const kept = connections.get(number);
  if (kept === undefined) return;
  kept.isClosed = true;
  say({ kind: 'closed', connection: number });
  forget(number, kept);
}

/** Once nothing is left to be said of it. */
function forget(number: number, { forwarded, isClosed }: Kept): void {
  if (isClosed && forwarded.underWay === 0) connections.delete(number);
}

function obey(order: Order): void {
  if (order.kind === 'heard') gathering.heard();
  else if (order.kind === 'ask') say({ kind: 'here' });
  else if (order.kind === 'end') end();
  else if (order.kind === 'open') open(order.connection, order.fd, order.told);
  else {
    const kept = connections.get(order.connection);
    // It may have gone while the order was under way.
    if (kept !== undefined) obeyFor(kept, order);
  }
}

function obeyFor(kept: Kept, order: Exclude<Order, { kind: 'heard' | 'ask' | 'end' | 'open' }>): void {
  const { connection, forwarded } = kept;
  if (order.kind === 'told') connection.become(ground.identityOf(order.told));
  else if (order.kind === 'moved') connection.doorway.moveTo(order.space);
  else if (order.kind === 'finish') connection.finish();
  else if (order.kind === 'destroy') connection.destroy();
  else if (order.kind === 'breakOff') connection.breakOff(new KmsError(order.code, order.detail || undefined));
  else {
    forwarded.answered(order);
    forget(order.connection, kept);
  }
}

function end(): void {
  clearInterval(sweeper);
  gathering.last();
  port.close();
}

const sweeper = setInterval(() => {
  for (const { connection, isClosed } of connections.values()) if (!isClosed) connection.sweep();
}, SWEEP_INTERVAL_MS);
// Whatever it ends of: what was read, and is to be sent, may be somebody's plaintext.
process.on('exit', () => {
  for (const { connection, isClosed } of connections.values()) if (!isClosed) connection.wipe();
  buffers.wipe();
});
port.on('message', obey);
say({ kind: 'ready' });
