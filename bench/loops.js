// How the time of one way to seal or open a message is taken.

/**
 * A loop of its own for each: one loop for all would turn the call in it megamorphic and charge the fast ones. `run(n)` gives
 * the nanoseconds of n steps and the CPU time of all threads meanwhile, `last()` what the last step gave back.
 */
function loop(step, { head, call }, clock, processClock) {
  const source = `return ${head} => {
    const [start, cpu] = [clock(), processClock()];
    for (let i = 0; i < n; i++) state.last = ${call};
    return { ns: clock() - start, cpuNs: processClock() - cpu };
  }`;
  const state = { last: undefined };
  const run = new Function('step', 'state', 'clock', 'processClock', source)(step, state, clock, processClock);
  return { run, last: () => state.last };
}

/** By this thread's CPU time other work on the machine does not count; but what is done on other threads would look free: promises go by the clock. */
export function loopsOf({ threadClock, processClock }) {
  const monotonic = () => performance.now() * 1e6;
  return {
    synchronous: (step) => ({ byClock: false, ...loop(step, { head: '(n)', call: 'step()' }, threadClock, processClock) }),
    asynchronous: (step) => ({
      byClock: true,
      ...loop(step, { head: 'async (n)', call: 'await step()' }, monotonic, processClock),
    }),
  };
}
