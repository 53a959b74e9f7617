import { terminalBar } from '../terminal-bar.js';

/** The members of a job, as HTTP gives them, that people look at. */
export interface JobForm {
  job_id: string;
  kind: string;
  thread_id: string;
  state: string;
  phase: string;
  new_key_id: string | null;
  total: number;
  walked: number;
  moved: number;
  per_second: number;
  seconds_left: number | null;
  blocked_by: Array<{ message_id: string; reason: string }>;
  error: string | null;
  started_at: string;
  finished_at: string | null;
}

/** Shows how far jobs are, where somebody looks. */
export interface JobProgress {
  /** Those that run; `ended` of `threads` do not any more. */
  show(jobs: Iterable<JobForm>, ended: number, threads: number): void;
  stop(): void;
}

const SILENT: JobProgress = { show() {}, stop() {} };
const FORMAT = '{phase} {bar} {percentage}% · {value} of {total} messages · {rate} a second · {left} left{of}';

export function jobProgress(quiet: boolean): JobProgress {
  if (quiet || !process.stderr.isTTY) return SILENT;
  const bar = terminalBar(FORMAT);
  return {
    show(jobs, ended, threads) {
      const running = [...jobs];
      const sum = (of: (job: JobForm) => number) => running.reduce((total, job) => total + of(job), 0);
      const walked = sum((job) => job.walked);
      // Messages that were written since a job began are walked, too.
      const total = Math.max(
        walked,
        sum((job) => job.total),
      );
      const times = running.map((job) => job.seconds_left);
      const left = times.length === 0 || times.includes(null) ? 'an unknown time' : `${Math.max(...(times as number[]))} s`;
      const of = threads === 1 ? '' : ` · ${ended} of ${threads} threads done`;
      const shown = { phase: (running[0]?.phase ?? '').padEnd(6), rate: sum((job) => job.per_second), left, of };
      if (!bar.isActive) bar.start(total, walked, shown);
      bar.setTotal(total);
      bar.update(walked, shown);
    },
    stop: () => bar.stop(),
  };
}
