import { SWEEP_INTERVAL_MS } from '../limits.js';
import { sweep } from '../vault.js';

export interface IdleTimes {
  /** 0: contexts stay until their place is wanted. */
  contextIdleMs: number;
  /** 0: keys stay until their place is wanted. */
  keyIdleMs: number;
}

const open = new Set<IdleTimes>();
let timer: NodeJS.Timeout | undefined;

/** The strictest of those that are open, in sweeps; 0 if none sets one. */
function sweepsOf(times: number[]): number {
  const set = times.filter((ms) => ms > 0);
  return set.length === 0 ? 0 : Math.max(1, Math.ceil(Math.min(...set) / SWEEP_INTERVAL_MS));
}

function look(): void {
  const times = [...open];
  sweep(sweepsOf(times.map((one) => one.contextIdleMs)), sweepsOf(times.map((one) => one.keyIdleMs)));
}

/** Wipes what is idle, for the whole process (the vault is one), while anyone wants it. Returns how to end that. */
export function keepSwept(times: IdleTimes): () => void {
  open.add(times);
  timer ??= setInterval(look, SWEEP_INTERVAL_MS).unref();
  return () => {
    open.delete(times);
    if (open.size > 0) return;
    clearInterval(timer);
    timer = undefined;
  };
}
