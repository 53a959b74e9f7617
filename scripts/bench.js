// Measures the product against floors and peers in one run. `npm run bench [-- --quick] [-- --only embedded|keys|daemon|workers|latency|client|audit|rotation|threads|nodes]`.
// A whole run writes BENCHMARKS.md and docs/benchmarks; a quick or partial one only prints what the first would have been.
// `--report FILE.json` makes both from the results of a run, bench/build/results.json or a copy of it, and measures nothing. What
// `npm run bench:scale` measured last is part of the documents.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { measureAudit } from '../bench/audit.js';
import { judge } from '../bench/bars.js';
import { measureClient } from '../bench/client.js';
import { measureDaemon } from '../bench/daemon.js';
import { measureEmbedded } from '../bench/embedded.js';
import { measureKeys } from '../bench/keys.js';
import { measureLatency } from '../bench/latency.js';
import { describeMachine } from '../bench/machine.js';
import { measureNodes } from '../bench/nodes.js';
import { BENCH, BUILD, buildPrograms, installPeers, ROOT } from '../bench/programs.js';
import { progressOf } from '../bench/progress.js';
import { reportText, writeReport } from '../bench/report.js';
import { measureRotation } from '../bench/rotation.js';
import { withScale } from '../bench/scale/documents.js';
import { measureThreads } from '../bench/threads.js';
import { measureWorkers } from '../bench/workers.js';

const PARTS = {
  embedded: measureEmbedded,
  keys: measureKeys,
  daemon: measureDaemon,
  workers: measureWorkers,
  latency: measureLatency,
  client: measureClient,
  audit: measureAudit,
  rotation: measureRotation,
  threads: measureThreads,
  nodes: measureNodes,
};
const PEERS = ['@aws-crypto/client-node', '@noble/ciphers', 'fastify', 'sodium-native'];
const BUILT = ['dist/index.js', 'dist/cli/main.js', 'dist/client/index.js', 'build/Release/progressdb_kms.node'];

function parseFlags() {
  const options = {
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
    peers: { type: 'boolean', default: false },
    report: { type: 'string' },
  };
  const { values } = parseArgs({ options });
  if (values.only !== undefined && !(values.only in PARTS)) throw new Error(`--only takes ${Object.keys(PARTS).join(', ')}`);
  return values;
}

/** The built library; with `peersOnly` the floors and peers are measured without it. */
function productPath(peersOnly) {
  if (peersOnly) return undefined;
  const missing = BUILT.filter((path) => !existsSync(join(ROOT, path)));
  if (missing.length > 0) throw new Error(`not built: ${missing.join(', ')} (\`npm run build\`)`);
  return pathToFileURL(join(ROOT, 'dist/index.js')).href;
}

/** Measures one part after another; why some could not be is told at the end, when no bar is drawn over it. */
async function measureParts(names, run, results) {
  const failed = new Map();
  const progress = progressOf(names.length);
  for (const [done, name] of names.entries()) {
    progress.begin(name, done);
    try {
      results[name] = await PARTS[name]({ ...run, say: progress.say });
    } catch (error) {
      failed.set(name, error);
    }
    progress.ended();
  }
  progress.stop();
  for (const [name, error] of failed) process.stderr.write(`${name}: ${error?.stack ?? error}\n`);
  return [...failed.keys()];
}

async function measure({ quick, only, peers }) {
  const programs = buildPrograms();
  const scratch = mkdtempSync(join(tmpdir(), 'kms-bench-'));
  process.once('exit', () => rmSync(scratch, { recursive: true, force: true }));
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(130));
  const results = describeMachine(quick, Object.fromEntries(PEERS.map((name) => [name, join(BENCH, 'node_modules', name)])));
  const names = only === undefined ? Object.keys(PARTS) : [only];
  const failed = await measureParts(names, { quick, programs, scratch, product: productPath(peers) }, results);
  results.bars = judge(results);
  writeFileSync(join(BUILD, 'results.json'), `${JSON.stringify(results, null, 2)}\n`);
  const whole = !quick && !peers && only === undefined && failed.length === 0;
  process.stdout.write(whole ? await writeReport(withScale(results), ROOT) : reportText(results));
  if (failed.length > 0) throw new Error(`could not be measured: ${failed.join(', ')}`);
}

function resultsIn(path) {
  const results = JSON.parse(readFileSync(path, 'utf8'));
  if (typeof results?.at !== 'string' || typeof results.versions !== 'object')
    throw new Error(`${path} is not the results of a run`);
  return results;
}

async function main() {
  const flags = parseFlags();
  installPeers();
  if (flags.report === undefined) return measure(flags);
  await writeReport(withScale(resultsIn(flags.report)), ROOT);
}

main().catch((error) => {
  process.stderr.write(`bench: ${error.message}\n`);
  process.exitCode = 1;
});
