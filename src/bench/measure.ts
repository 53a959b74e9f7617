import { daemonBlocks, runDaemon } from './daemon-run.js';
import { embeddedBlocks, runEmbedded } from './embedded-run.js';
import { type Setting, settingOf } from './machine.js';
import type { Existing, Plan } from './plan.js';
import { type Step, Steps } from './progress.js';
import type { Row } from './rows.js';
import { Scratch } from './scratch.js';

export interface Measured extends Setting {
  /** The address of the daemon, where it is one that ran already. */
  daemon: string | null;
  settings: Plan;
  rows: Row[];
}

/**
 * Measures this machine. What it starts has ended, and what it made is gone, when it settles; an abort makes it reject soon.
 * Throws what the key service throws, INTERNAL if an answer is wrong.
 */
export async function measure(
  plan: Plan,
  existing: Existing | undefined,
  show: (step: Step) => void,
  signal: AbortSignal,
): Promise<Measured> {
  const setting = settingOf(new Date());
  const runs = (mode: Plan['modes'][number]) => plan.modes.includes(mode);
  const total = (runs('embedded') ? embeddedBlocks(plan) : 0) + (runs('daemon') ? daemonBlocks(plan) : 0);
  const steps = new Steps(total, plan.seconds, show);
  const scratch = new Scratch();
  try {
    const rows: Row[] = [];
    if (runs('embedded')) rows.push(...(await runEmbedded(plan, scratch, steps, signal)));
    if (runs('daemon')) rows.push(...(await runDaemon(plan, existing, scratch, steps, signal)));
    return { ...setting, daemon: existing?.name ?? null, settings: plan, rows };
  } finally {
    scratch.remove();
  }
}
