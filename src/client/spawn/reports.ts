import { KmsError } from '../../errors.js';
import type { SpawnLogger } from './options.js';

type Level = keyof SpawnLogger;

const LEVELS: ReadonlySet<unknown> = new Set<Level>(['debug', 'info', 'warn', 'error']);

/** Where what the daemon says goes, and what we say of it. Neither throws. */
export interface Reports {
  /** A line of the daemon's standard error. */
  said(line: string): void;
  event(level: Level, event: string, fields: Record<string, unknown>): void;
}

export function reportsTo(logger: SpawnLogger | undefined): Reports {
  if (logger === undefined) return toStandardError;
  for (const level of LEVELS as ReadonlySet<Level>) {
    if (typeof logger?.[level] !== 'function') {
      throw new KmsError('INVALID_ARGUMENT', 'logger: an object with functions debug, info, warn and error was expected');
    }
  }
  const write: Reports['event'] = (level, event, fields) => {
    try {
      logger[level](fields, event);
    } catch {
      // A logger's failure is not the daemon's.
    }
  };
  return { said: (line) => write(...parsed(line)), event: write };
}

/** One event as a line of JSON, as the daemon's own lines are. */
const toStandardError: Reports = {
  said: (line) => void process.stderr.write(`${line}\n`),
  event: (level, event, fields) =>
    void process.stderr.write(`${JSON.stringify({ time: new Date().toISOString(), level, event, ...fields })}\n`),
};

/** What is not one of the daemon's events is the word of something that goes wrong before there is a log, or beside it. */
function parsed(line: string): [Level, string, Record<string, unknown>] {
  const event = eventOf(line);
  if (event === undefined) return ['warn', line, {}];
  const { level, event: name, ...fields } = event;
  return [LEVELS.has(level) ? (level as Level) : 'info', String(name), fields];
}

function eventOf(line: string): Record<string, unknown> | undefined {
  try {
    const event = JSON.parse(line);
    return typeof event === 'object' && event !== null && 'event' in event ? event : undefined;
  } catch {
    return undefined;
  }
}
