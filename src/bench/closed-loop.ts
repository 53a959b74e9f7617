import type { Clock } from './clock.js';
import type { Latencies } from './latencies.js';

export interface ClosedLoop {
  /** Operations under way at once: each lane begins the next one when the one before is answered. */
  lanes: number;
  seconds: number;
  /** One operation in so many is timed: where one takes less than a microsecond the clock itself is a good part of it. */
  timedEach: number;
}

export interface Counted {
  operations: number;
  seconds: number;
}

/** How much of what could be served was: throughput. `operate` rejects where an answer is wrong, which ends all of it. */
export async function closedLoop(
  { lanes, seconds, timedEach }: ClosedLoop,
  operate: (lane: number) => Promise<void>,
  latencies: Latencies,
  clock: Clock,
): Promise<Counted> {
  const start = clock.now();
  const end = start + seconds * 1e9;
  let isRunning = true;
  let operations = 0;
  const silence = clock.alarm(seconds * 1e9, () => {
    isRunning = false;
  });
  const lane = async (number: number) => {
    for (let index = number; isRunning; index++) {
      if (index % timedEach === 0) {
        const began = clock.now();
        await operate(number);
        const now = clock.now();
        latencies.record(now - began);
        // What is answered without a turn of the event loop keeps the alarm from ringing.
        if (now >= end) isRunning = false;
      } else await operate(number);
      operations++;
    }
  };
  try {
    await Promise.all(Array.from({ length: lanes }, (_, number) => lane(number)));
  } finally {
    isRunning = false;
    silence();
  }
  return { operations, seconds: (clock.now() - start) / 1e9 };
}
