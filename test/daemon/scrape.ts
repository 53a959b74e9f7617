import type { ExecutionContext } from 'ava';
import { askHttp } from './http-peer.js';

/** What a scrape gave: each line's value by its name and labels, sorted by the labels' names. */
export class Scrape {
  readonly values = new Map<string, number>();
  readonly types = new Map<string, string>();

  constructor(readonly text: string) {
    for (const line of text.split('\n')) {
      const [, kind, name = '', rest = ''] = /^# (TYPE|HELP) (\S+) (.*)$/.exec(line) ?? [];
      if (kind === 'TYPE') this.types.set(name, rest);
      const [, series, value] = /^([a-z][^ ]*) (\S+)$/.exec(line) ?? [];
      if (series !== undefined) this.values.set(sorted(series), Number(value));
    }
  }

  /** 0 where there is none; names without the common prefix. */
  get(series: string): number {
    return this.values.get(sorted(series.startsWith('process_') ? series : `progressdb_kms_${series}`)) ?? 0;
  }

  /** By how much each of them has grown since `before`. */
  since(before: Scrape, ...series: string[]): number[] {
    return series.map((one) => this.get(one) - before.get(one));
  }

  /** All values of a label, in any series. */
  labelled(label: string): Set<string> {
    return new Set([...this.values.keys()].flatMap((key) => new RegExp(`[{,]${label}="([^"]*)"`).exec(key)?.[1] ?? []));
  }
}

function sorted(series: string): string {
  const [, name = '', labels = ''] = /^([^{]+)(?:\{(.*)\})?$/.exec(series) ?? [];
  return `${name}{${(labels.match(/[a-z]+="[^"]*"/g) ?? []).sort().join(',')}}`;
}

export async function scrape(t: ExecutionContext, to: string | number, headers: Record<string, string> = {}): Promise<Scrape> {
  const { status, text } = await askHttp(to, { path: '/metrics', headers });
  t.is(status, 200);
  return new Scrape(text);
}
