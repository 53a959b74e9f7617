import { readdir, readFile } from 'node:fs/promises';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { each, one, PREFIX, type Series } from './series.js';

/** How often the delay of the event loop is looked at: a process that is watched wakes up for it. */
const RESOLUTION_MS = 20;
const QUANTILES = ['0.5', '0.99', '1'] as const;

/** Starts to look, until `stop`. */
export function eventLoopSeries(): { series: Series; stop: () => void } {
  const delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delays.enable();
  const read = () => {
    // A look itself takes the resolution; what it came later than that is the delay.
    const late = (quantile: string) => Math.max(0, delays.percentile(Number(quantile) * 100) / 1e9 - RESOLUTION_MS / 1_000);
    const samples = each('quantile', QUANTILES, (quantile) => (delays.count === 0 ? 0 : late(quantile)));
    delays.reset();
    return samples;
  };
  return {
    series: {
      name: `${PREFIX}event_loop_delay_seconds`,
      help: 'How late the event loop was, since the scrape before.',
      type: 'gauge',
      read,
    },
    stop: () => delays.disable(),
  };
}

async function openDescriptors(): Promise<number | undefined> {
  // The one that reads the directory is among them.
  return (await readdir('/proc/self/fd')).length - 1;
}

async function mostDescriptors(): Promise<number | undefined> {
  const soft = /^Max open files\s+(\d+)/m.exec(await readFile('/proc/self/limits', 'utf8'))?.[1];
  return soft === undefined ? undefined : Number(soft);
}

/** Nothing where the system does not tell. */
function told(name: string, help: string, ask: () => Promise<number | undefined>): Series {
  const read = async () => {
    const value = await ask().catch(() => undefined);
    return value === undefined ? [] : one(value);
  };
  return { name, help, type: 'gauge', read };
}

/** Under the names that every exporter has for these. */
export function processSeries(): Series[] {
  const startedAt = (Date.now() - process.uptime() * 1_000) / 1_000;
  const cpu = () => {
    const { user, system } = process.cpuUsage();
    return one((user + system) / 1e6);
  };
  return [
    { name: 'process_cpu_seconds_total', help: 'Processor time, of user and system.', type: 'counter', read: cpu },
    {
      name: 'process_resident_memory_bytes',
      help: 'Resident memory.',
      type: 'gauge',
      read: () => one(process.memoryUsage.rss()),
    },
    { name: 'process_start_time_seconds', help: 'When it started.', type: 'gauge', read: () => one(startedAt) },
    told('process_open_fds', 'Open descriptors.', openDescriptors),
    told('process_max_fds', 'Most open descriptors.', mostDescriptors),
  ];
}
