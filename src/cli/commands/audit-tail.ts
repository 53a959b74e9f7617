import { resolve } from 'node:path';
import { linesBackward } from '../../audit/reading/backward.js';
import { closeLog } from '../../audit/reading/files.js';
import { linesAfter, seqOf } from '../../audit/reading/follow.js';
import { LineScanner } from '../../audit/verify/scanner.js';
import type { Output } from '../output.js';
import type { Settings } from '../settings.js';
import { opened } from './audit.js';

const DEFAULT_LINES = 20;
const HEAD = new Set(['seq', 'time', 'boot', 'prev', 'type', 'actor', 'key_id', 'thread_id', 'outcome']);

export interface TailOptions {
  lines?: number;
  follow?: boolean;
}

/** The last lines, and with `follow` what is written from then on. With --json the lines as they are. */
export async function tailCommand(
  options: TailOptions,
  path: string | undefined,
  settings: Settings,
  output: Output,
): Promise<void> {
  const place = path === undefined ? settings.dataDir.value : resolve(path);
  const last = await lastLines(place, options.lines ?? DEFAULT_LINES, settings);
  const show = (line: Buffer) => output.data(`${output.json ? line.toString('utf8') : shown(line)}\n`);
  last.forEach(show);
  if (options.follow !== true) return;
  const seq = last.length === 0 ? 0 : (seqOf(last.at(-1) as Buffer) ?? 0);
  const isUnread = () => process.stdout.destroyed || process.stdout.errored !== null;
  for await (const line of linesAfter(place, seq, isUnread)) show(line);
}

async function lastLines(place: string, count: number, settings: Settings): Promise<Buffer[]> {
  const files = await opened([place], settings);
  try {
    const lines: Buffer[] = [];
    for await (const line of linesBackward(files)) {
      lines.push(Buffer.from(line));
      if (lines.length >= count) break;
    }
    return lines.reverse();
  } finally {
    await closeLog(files);
  }
}

/** One event for people. What stands in the log may not move their cursor. */
function shown(line: Buffer): string {
  const scanner = new LineScanner();
  const wrong = scanner.scan(line, 0, line.length);
  if (wrong !== undefined) return `?  ${printable(line.toString('utf8').slice(0, 200))}  (no line of a log: ${wrong})`;
  const event = scanner.event();
  const named = (name: string) => (event[name] === undefined || event[name] === '' ? [] : [String(event[name])]);
  const own = Object.entries(event).filter(([name]) => !HEAD.has(name));
  const parts = [
    scanner.time,
    String(scanner.seq),
    scanner.type,
    ...named('actor'),
    ...named('outcome'),
    ...named('key_id'),
    ...named('thread_id'),
    ...own.map(
      ([name, value]) => `${name}=${typeof value === 'string' && /^[!-~]+$/.test(value) ? value : JSON.stringify(value)}`,
    ),
  ];
  return printable(parts.join('  '));
}

function printable(text: string): string {
  return text.replace(/[^\P{C}]|[\u2028\u2029]/gu, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
