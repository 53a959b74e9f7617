// Measures the product against floors and peers in one run. `npm run bench [-- --quick] [-- --only embedded|daemon|client|audit|rotation]`.
// A whole run writes BENCHMARKS.md; a quick or partial one only prints what it would have written.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, release, tmpdir, totalmem, type } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { measureAudit } from '../bench/audit.js';
import { judge } from '../bench/bars.js';
import { measureClient } from '../bench/client.js';
import { measureDaemon } from '../bench/daemon.js';
import { measureEmbedded } from '../bench/embedded.js';
import { PINNED } from '../bench/processes.js';
import { BENCH, BUILD, buildPrograms, installPeers, ROOT } from '../bench/programs.js';
import { report } from '../bench/report.js';
import { measureRotation } from '../bench/rotation.js';

const PARTS = {
  embedded: measureEmbedded,
  daemon: measureDaemon,
  client: measureClient,
  audit: measureAudit,
  rotation: measureRotation,
};
const BUILT = ['dist/index.js', 'dist/cli/main.js', 'dist/client/index.js', 'build/Release/progressdb_kms.node'];

function parseFlags() {
  const options = {
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
    peers: { type: 'boolean', default: false },
  };
  const { values } = parseArgs({ options });
  if (values.only !== undefined && !(values.only in PARTS)) throw new Error(`--only takes ${Object.keys(PARTS).join(', ')}`);
  return values;
}

const versionOf = (path) => JSON.parse(readFileSync(path, 'utf8')).version;

function describeRun(quick) {
  return {
    at: new Date().toISOString(),
    quick,
    pinned: PINNED,
    machine: {
      cpu: cpus()[0]?.model ?? 'unknown processor',
      cores: cpus().length,
      memoryGiB: Math.round(totalmem() / 2 ** 30),
      os: `${type()} ${release()}`,
    },
    versions: {
      node: process.version,
      openssl: process.versions.openssl,
      product: versionOf(join(ROOT, 'package.json')),
      sodium: versionOf(join(BENCH, 'node_modules/sodium-native/package.json')),
      noble: versionOf(join(BENCH, 'node_modules/@noble/ciphers/package.json')),
    },
  };
}

/** The built library; with `peersOnly` the floors and peers are measured without it. */
function productPath(peersOnly) {
  if (peersOnly) return undefined;
  const missing = BUILT.filter((path) => !existsSync(join(ROOT, path)));
  if (missing.length > 0) throw new Error(`not built: ${missing.join(', ')} (\`npm run build\`)`);
  return pathToFileURL(join(ROOT, 'dist/index.js')).href;
}

async function measureParts(names, run, results) {
  const failed = [];
  for (const name of names) {
    try {
      results[name] = await PARTS[name](run);
    } catch (error) {
      failed.push(name);
      process.stderr.write(`${name}: ${error?.stack ?? error}\n`);
    }
  }
  return failed;
}

async function main() {
  const { quick, only, peers } = parseFlags();
  installPeers();
  const programs = buildPrograms();
  const scratch = mkdtempSync(join(tmpdir(), 'kms-bench-'));
  process.once('exit', () => rmSync(scratch, { recursive: true, force: true }));
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(130));
  const say = (text) => process.stderr.write(`${text}\n`);
  const results = describeRun(quick);
  const names = only === undefined ? Object.keys(PARTS) : [only];
  const failed = await measureParts(names, { quick, programs, scratch, say, product: productPath(peers) }, results);
  results.bars = judge(results);

  writeFileSync(join(BUILD, 'results.json'), `${JSON.stringify(results, null, 2)}\n`);
  const notes = join(BENCH, 'notes.md');
  const text = report(results, existsSync(notes) ? readFileSync(notes, 'utf8') : '');
  const whole = !quick && !peers && only === undefined && failed.length === 0;
  if (whole) writeFileSync(join(ROOT, 'BENCHMARKS.md'), text);
  process.stdout.write(text);
  if (failed.length > 0) throw new Error(`could not be measured: ${failed.join(', ')}`);
}

main().catch((error) => {
  process.stderr.write(`bench: ${error.message}\n`);
  process.exitCode = 1;
});
