// What an operation costs, counted and not timed: instructions under callgrind, and bytes on the heap of JavaScript. Fails when one
// costs more than bench/instruction-counts.json lets it; `--update` writes that file anew, `--keep` leaves callgrind's dumps.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { countInstructions } from '../bench/callgrind.js';
import { measureDaemonAllocations } from '../bench/counted-daemon.js';
import { buildCounted, toolchain } from '../bench/counted-programs.js';
import { EXACT_HEAP } from '../bench/heap.js';
import { BENCH } from '../bench/programs.js';

const FILE = join(BENCH, 'instruction-counts.json');
const WORKER = join(BENCH, 'counted-worker.js');
/** Less than a `new` and its `delete`, which take 146. */
const INSTRUCTIONS_OF_ROOM = 30;
/** From run to run V8 comes out up to 70 apart; an object more, which this does not see, the bytes tell of. */
const INSTRUCTIONS_OF_ROOM_IN_NODE = 100;
/** Less than the smallest object. */
const BYTES_OF_ROOM = 8;
/** The compiler of JavaScript is another one in each of them. */
const NODE = `node ${process.versions.node.split('.')[0]}`;
/** One thread, and nothing that depends on when another one gets on. */
const ONE_THREAD = ['--predictable', '--single-threaded'];

const scratch = mkdtempSync(join(tmpdir(), 'kms-instructions-'));

function whyNoCallgrind() {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    return `they hold for x86-64 Linux, not for ${process.platform} ${process.arch}`;
  if (!existsSync('/usr/include/valgrind/callgrind.h')) return 'valgrind is not installed';
  if (!existsSync('/usr/include/openssl/evp.h')) return 'the headers and library of OpenSSL are not installed';
  return undefined;
}

function instructionGroups() {
  const why = whyNoCallgrind();
  if (why !== undefined) {
    console.log(`SKIPPED: instructions are not counted: ${why}`);
    return {};
  }
  const { driver, collector } = buildCounted();
  const tools = toolchain();
  const worker = [process.execPath, ...ONE_THREAD, ...EXACT_HEAP, WORKER, scratch, collector];
  return {
    'native core, instructions': {
      with: tools,
      room: INSTRUCTIONS_OF_ROOM,
      counts: countInstructions([driver], scratch, 'core'),
    },
    'embedded, instructions': {
      with: `${tools}, ${NODE}`,
      room: INSTRUCTIONS_OF_ROOM_IN_NODE,
      counts: countInstructions(worker, scratch, 'embedded'),
    },
  };
}

async function allocationGroup() {
  const embedded = execFileSync(process.execPath, [...EXACT_HEAP, WORKER, scratch, ''], { encoding: 'utf8' });
  const counts = { ...JSON.parse(embedded), ...(await measureDaemonAllocations(scratch)) };
  return { 'JavaScript heap, bytes': { with: NODE, room: BYTES_OF_ROOM, counts } };
}

/** The file's form of what was measured: of the groups that were not, what it had. */
function limitsOf(groups, before) {
  const written = { ...before };
  for (const [name, { with: tools, room, counts }] of Object.entries(groups)) {
    const entries = Object.entries(counts).map(([operation, count]) => {
      const measured = Math.round(count);
      return [operation, { measured, limit: measured + room }];
    });
    written[name] = { with: tools, counts: Object.fromEntries(entries) };
  }
  return written;
}

/** A line for each operation. */
function textOf(limits) {
  const text = JSON.stringify(limits, null, 2);
  return `${text.replace(/\{\s+("measured": \d+),\s+("limit": \d+)\s+\}/g, '{ $1, $2 }')}\n`;
}

/** What a count is beside its limit; it holds unless that is in capitals. */
function verdictOf(count, known) {
  if (known === undefined) return 'HAS NO LIMIT';
  if (count === undefined) return 'IS NOT MEASURED';
  if (count > known.limit) return 'MORE';
  return count < known.measured - (known.limit - known.measured) ? 'less: --update' : 'ok';
}

/** Prints a group beside its limits; how many of them do not hold. */
function compare(name, { with: tools, counts }, known) {
  const isSame = known === undefined || known.with === tools;
  console.log(isSame ? `${name} (${tools})` : `SKIPPED: ${name} (${tools}) are not compared: the limits are of ${known.with}`);
  let failed = 0;
  for (const operation of new Set([...Object.keys(counts), ...Object.keys(known?.counts ?? {})])) {
    const count = counts[operation] === undefined ? undefined : Math.round(counts[operation]);
    const one = known?.counts[operation];
    const verdict = isSame ? verdictOf(count, one) : '';
    if (verdict !== verdict.toLowerCase()) failed++;
    const columns = [count, one?.measured, one?.limit].map((column) => String(column ?? '-').padStart(8));
    console.log(`  ${operation.padEnd(46)}${columns.join('')}  ${verdict}`);
  }
  return failed;
}

try {
  console.log(`${''.padEnd(48)}${['counted', 'was', 'limit'].map((column) => column.padStart(8)).join('')}`);
  const groups = { ...instructionGroups(), ...(await allocationGroup()) };
  const known = existsSync(FILE) ? JSON.parse(readFileSync(FILE, 'utf8')) : {};
  let failed = 0;
  for (const [name, group] of Object.entries(groups)) failed += compare(name, group, known[name]);
  if (process.argv.includes('--update')) {
    writeFileSync(FILE, textOf(limitsOf(groups, known)));
    console.log(`${FILE} is written`);
  } else if (failed > 0) {
    console.log(
      `${failed} over their limits. To see where: --keep, then callgrind_annotate. If it is meant: npm run test:instructions -- --update`,
    );
    process.exitCode = 1;
  }
} finally {
  if (process.argv.includes('--keep')) console.log(`the dumps are in ${scratch}`);
  else rmSync(scratch, { recursive: true });
}
