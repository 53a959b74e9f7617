import { InvalidArgumentError } from 'commander';
import { FORMS, type Form, OPERATIONS, type Operation, PROTOCOLS, type Protocol } from '../bench/plan.js';
import {
  MAX_BENCH_BYTES,
  MAX_BENCH_CONNECTIONS,
  MAX_BENCH_IN_FLIGHT,
  MAX_BENCH_KEYS,
  MAX_BENCH_RATE,
  MAX_BENCH_REPEATS,
  MAX_BENCH_SECONDS,
  MAX_BENCH_VALUES,
  MIN_BENCH_BYTES,
} from '../limits.js';

/** The options of `bench`, each checked by itself. */
export interface BenchFlags {
  operations?: Operation[];
  protocols?: Protocol[];
  calls?: Form[];
  size?: number[];
  inFlight?: number[];
  connections?: number[];
  keys?: number;
  store?: 'memory' | 'files';
  rate?: number;
  seconds?: number;
  warmUp?: number;
  repeats?: number;
  baseline: boolean;
  out?: string;
}

const UNITS: Readonly<Record<string, number>> = { '': 1, b: 1, kib: 1024, mib: 1024 * 1024 };

function listOf<T>(what: string, parse: (item: string) => T | undefined): (text: string) => T[] {
  return (text) => {
    const values = text.split(',').map((item) => parse(item.trim()));
    if (values.includes(undefined)) throw new InvalidArgumentError(`It must be ${what}, separated by commas.`);
    const distinct = [...new Set(values as T[])];
    if (distinct.length > MAX_BENCH_VALUES) throw new InvalidArgumentError(`It must be ${MAX_BENCH_VALUES} values at most.`);
    return distinct;
  };
}

function namesOf<T extends string>(names: readonly T[]): (text: string) => T[] {
  return listOf(`some of ${names.join(', ')}`, (item) => names.find((name) => name === item));
}

function whole(text: string, most: number): number | undefined {
  if (!/^[1-9]\d{0,9}$/.test(text) || Number(text) > most) return undefined;
  return Number(text);
}

function wholesTo(most: number): (text: string) => number[] {
  return listOf(`whole numbers from 1 to ${most}`, (item) => whole(item, most));
}

function wholeTo(most: number): (text: string) => number {
  return (text) => {
    const value = whole(text, most);
    if (value === undefined) throw new InvalidArgumentError(`It must be a whole number from 1 to ${most}.`);
    return value;
  };
}

function size(item: string): number | undefined {
  const [, count, unit = ''] = /^(\d{1,7}) ?(b|kib|mib)?$/i.exec(item) ?? [];
  const bytes = Number(count) * (UNITS[unit.toLowerCase()] as number);
  return bytes >= MIN_BENCH_BYTES && bytes <= MAX_BENCH_BYTES ? bytes : undefined;
}

function secondsFrom(least: number): (text: string) => number {
  return (text) => {
    const seconds = /^\d{1,4}(\.\d{1,3})?$/.test(text) ? Number(text) : Number.NaN;
    if (seconds >= least && seconds <= MAX_BENCH_SECONDS) return seconds;
    throw new InvalidArgumentError(`It must be seconds from ${least} to ${MAX_BENCH_SECONDS}, as 0.5 or 10.`);
  };
}

function storeOf(text: string): 'memory' | 'files' {
  if (text === 'memory' || text === 'files') return text;
  throw new InvalidArgumentError('It must be memory or files.');
}

export const parseOperations = namesOf(OPERATIONS);
export const parseProtocols = namesOf(PROTOCOLS);
export const parseCalls = namesOf(FORMS);
export const parseSizes = listOf(`sizes from ${MIN_BENCH_BYTES} to 1MiB, as 64 or 4KiB`, size);
export const parseInFlight = wholesTo(MAX_BENCH_IN_FLIGHT);
export const parseConnections = wholesTo(MAX_BENCH_CONNECTIONS);
export const parseKeys = wholeTo(MAX_BENCH_KEYS);
export const parseRate = wholeTo(MAX_BENCH_RATE);
export const parseRepeats = wholeTo(MAX_BENCH_REPEATS);
export const parseSeconds = secondsFrom(0.01);
export const parseWarmUp = secondsFrom(0);
export const parseStore = storeOf;
