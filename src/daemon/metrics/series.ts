import type { Metric, Registry } from 'prom-client';

export type Labels = Readonly<Record<string, string | number>>;

export interface Sample {
  /** Of a histogram's parts, whose names differ from its own. */
  metricName?: string;
  labels: Labels;
  value: number;
}

export interface Series {
  name: string;
  help: string;
  type: 'counter' | 'gauge' | 'histogram';
  /** What it is now; read at each scrape. */
  read: () => Sample[] | Promise<Sample[]>;
}

export const PREFIX = 'progressdb_kms_';

export function gauge(name: string, help: string, read: Series['read']): Series {
  return { name: `${PREFIX}${name}`, help, type: 'gauge', read };
}

export function counter(name: string, help: string, read: Series['read']): Series {
  return { name: `${PREFIX}${name}`, help, type: 'counter', read };
}

/** The whole of one that has no labels. */
export function one(value: number): Sample[] {
  return [{ labels: {}, value }];
}

/** A value for each of the values of a label. */
export function each<T extends string>(label: string, values: readonly T[], of: (value: T) => number): Sample[] {
  return values.map((value) => ({ labels: { [label]: value }, value: of(value) }));
}

/**
 * Our figures are kept where they come to pass and read at a scrape, which prom-client's own classes, all of which count for
 * themselves, have no call for. To its registry a metric is what has a name and a `get`.
 */
export function register(registry: Registry, { name, help, type, read }: Series): void {
  const metric = { name, get: async () => ({ name, help, type, values: await read(), aggregator: 'sum' }) };
  registry.registerMetric(metric as unknown as Metric);
}
