import type { Clock } from './clock.js';
import type { Latencies } from './latencies.js';

export interface OpenLoop {
  /** Requests that are due in a second, whatever becomes of those before. */
  rate: number;
  seconds: number;
  /** Under way at most. What is due beyond that waits here, and its time runs. */
  lanes: number;
}

export interface Served {
  operations: number;
  seconds: number;
  /** Requests that were due and could not be sent by the end: their time so far is counted, which is less than it would be. */
  unsent: number;
}

/**
 * Requests at a fixed rate. Each one's time runs from the instant at which it was due: if the server stalls, those that would
 * have come meanwhile have waited, too, although a client that waits for its answers would never have sent them ("coordinated
 * omission"). `delays` gets the part of it before a request was sent: until another one was answered, or this process came to it.
 */
export async function openLoop(
  { rate, seconds, lanes }: OpenLoop,
  operate: (index: number) => Promise<void>,
  latencies: Latencies,
  clock: Clock,
  delays: Latencies,
): Promise<Served> {
  const total = Math.ceil(rate * seconds);
  const start = clock.now();
  const end = start + seconds * 1e9;
  const dueAt = (index: number) => start + (index * 1e9) / rate;
  let underWay = 0;
  let operations = 0;
  let failure: { error: unknown } | undefined;
  const send = async (index: number) => {
    underWay++;
    delays.record(clock.now() - dueAt(index));
    try {
      await operate(index);
      latencies.record(clock.now() - dueAt(index));
      operations++;
    } catch (error) {
      failure ??= { error };
    }
    underWay--;
  };

  let next = 0;
  for (let now = start; failure === undefined; now = clock.now()) {
    while (next < total && dueAt(next) <= now && underWay < lanes) send(next++);
    if (next === total || now >= end) break;
    await clock.turn(Math.min(end, dueAt(next)));
  }
  while (underWay > 0) await clock.turn(Number.NEGATIVE_INFINITY);
  if (failure !== undefined) throw failure.error;
  for (let index = next; index < total; index++) latencies.record(end - dueAt(index));
  return { operations, seconds: (clock.now() - start) / 1e9, unsent: total - next };
}
