import { closeSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { errorFields, Journal, jsonLog } from '../../dist/daemon/log.js';
import { KmsError } from '../../dist/errors.js';
import { scratch } from './running.js';

test('a line is one JSON object: level as a word, time in ISO 8601, the event, and its fields', (t) => {
  const lines: string[] = [];
  const log = jsonLog('info', (line) => lines.push(line));
  log('debug', 'unheard');
  log('warn', 'heard', { text: 'a "b"\n\u001b[2Jc', count: 7, yes: true, none: null, absent: undefined });
  log('error', 'bare');
  t.is(lines.length, 2);
  for (const line of lines) t.regex(line, /^\{[ -~]*\}\n$/, 'one line, with nothing that moves a cursor');
  const { time, ...rest } = JSON.parse(lines[0]!) as Record<string, unknown>;
  t.deepEqual(rest, { level: 'warn', event: 'heard', text: 'a "b"\n\u001b[2Jc', count: 7, yes: true, none: null });
  t.regex(String(time), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  t.deepEqual(Object.keys(JSON.parse(lines[1]!)), ['level', 'time', 'event'], 'neither pid nor host');
});

test('each level lets itself and what is graver through', (t) => {
  const levels = ['debug', 'info', 'warn', 'error'] as const;
  for (const [rank, least] of levels.entries()) {
    const heard: string[] = [];
    const log = jsonLog(least, (line) => heard.push(JSON.parse(line).level));
    for (const level of levels) log(level, 'x');
    t.deepEqual(heard, levels.slice(rank));
  }
});

test('an error is its code and message; where it comes from is told of what is ours only', (t) => {
  const lines: string[] = [];
  const log = jsonLog('info', (line) => lines.push(line));
  log('error', 'failed', errorFields(new TypeError('x is not a function')));
  log('error', 'failed', errorFields(new KmsError('KEY_NOT_FOUND')));
  const [defect, refusal] = lines.map((line) => JSON.parse(line) as Record<string, string>);
  t.is(defect!['code'], 'INTERNAL');
  t.regex(defect!['cause']!, /TypeError: x is not a function\n +at /);
  t.deepEqual([refusal!['code'], refusal!['message'], refusal!['cause']], ['KEY_NOT_FOUND', 'no such key', undefined]);
});

/** What is written to standard error while `act` runs. */
function toldBeside(act: () => void): string {
  const { write } = process.stderr;
  let told = '';
  process.stderr.write = (text: string | Uint8Array) => {
    told += text;
    return true;
  };
  try {
    act();
  } finally {
    process.stderr.write = write;
  }
  return told;
}

/** The descriptor under which this process has the file open. */
function descriptorOf(path: string): number {
  const all = readdirSync('/proc/self/fd').map(Number);
  const found = all.find((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path;
    } catch {
      return false;
    }
  });
  return found!;
}

test.serial('a log file that cannot be written ends nothing: its lines are said on standard error', (t) => {
  if (process.platform !== 'linux') {
    t.log('not run: only Linux tells which descriptor is the file’s');
    t.pass();
    return;
  }
  const path = join(scratch(t), 'log');
  const journal = new Journal({ logFile: path, logLevel: 'info' });
  journal.log('info', 'before');
  closeSync(descriptorOf(path));
  const told = toldBeside(() => {
    t.notThrows(() => journal.log('error', 'while', { why: 'full' }));
  });
  t.is(JSON.parse(told).event, 'while');
  t.deepEqual(readFileSync(path, 'utf8').match(/"event":"\w+"/g), ['"event":"before"']);
});

test.serial('standard error that is gone ends nothing either', (t) => {
  const { write } = process.stderr;
  process.stderr.write = () => {
    throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
  };
  try {
    t.notThrows(() => jsonLog()('error', 'unheard'));
  } finally {
    process.stderr.write = write;
  }
});
