import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Disk } from './disk.js';
import type { Ledger } from './ledger.js';

/** The log's files in the order of their lines, and the torn ends by their names, read by nothing of the product. */
export interface Logs {
  files: readonly Buffer[];
  torn: ReadonlyMap<string, Buffer>;
}

const NAME = /^kms-audit(-\d{16})?\.log$/;
const TORN = /^kms-audit\.log\.torn-[^/]+?(\.unrecorded)?$/;

/** Old files carry the number of their first line and so sort by it; the one that is written to comes last. */
function ordered(files: Map<string, Buffer>): Logs {
  const names = [...files.keys()].filter((name) => NAME.test(name)).sort();
  const torn = [...files]
    .filter(([name]) => TORN.test(name))
    .map(([name, content]) => [name.replace(/\.unrecorded$/, ''), content]);
  return { files: names.map((name) => files.get(name) as Buffer), torn: new Map(torn as Array<[string, Buffer]>) };
}

export function logsOn(disk: Disk, dataDir: string): Logs {
  const files = new Map<string, Buffer>();
  for (const [path, node] of disk.walk()) {
    if (node.kind === 'file' && path.startsWith(`${dataDir}/kms-audit`)) files.set(path.slice(dataDir.length + 1), node.content);
  }
  return ordered(files);
}

export function logsIn(dataDir: string): Logs {
  const names = readdirSync(dataDir).filter((name) => NAME.test(name) || TORN.test(name));
  return ordered(new Map(names.map((name) => [name, readFileSync(join(dataDir, name))])));
}

interface Event {
  seq: number;
  prev: string;
  type: string;
  outcome?: string;
  key_id?: string;
  state?: string;
  file?: string;
  sha256?: string;
}

/** The whole lines; of the last file what a crash has torn off is passed over. */
function* eventsOf({ files }: Logs): Generator<{ event: Event; line: string }> {
  for (const log of files) {
    for (const line of log.toString('latin1').split('\n').slice(0, -1)) {
      if (log === files.at(-1) && !line.startsWith('{')) return;
      yield { event: (JSON.parse(Buffer.from(line, 'latin1').toString('utf8')) as { event: Event }).event, line };
    }
  }
}

function checkTorn({ torn }: Logs, { file = '', sha256 }: Event): void {
  const content = torn.get(file);
  const found = content && createHash('sha256').update(content).digest('hex');
  if (found !== sha256) throw new Error(`${file} is not the torn end that the audit log says it is`);
}

/** Throws unless the lines are one chain and every operation that was answered has its line. */
export function checkLines(logs: Logs, ledger: Ledger): void {
  const found = new Map<string, number>();
  let prev = '0'.repeat(64);
  let seq = 0;
  for (const { event, line } of eventsOf(logs)) {
    seq += 1;
    if (event.seq !== seq || event.prev !== prev)
      throw new Error(`the line after ${seq - 1} of the audit log does not follow it`);
    prev = createHash('sha256').update(line, 'latin1').digest('hex');
    if (event.type === 'recovered') checkTorn(logs, event);
    if (event.outcome !== 'ok') continue;
    const text = [event.type, event.key_id, event.state].filter((word) => word !== undefined).join(' ');
    found.set(text, (found.get(text) ?? 0) + 1);
  }
  for (const [text, times] of ledger.lines) {
    if ((found.get(text) ?? 0) < times) throw new Error(`answered and not in the audit log: ${text} (${seq} lines)`);
  }
}
