// What many keys cost, from a thousand to a million: `npm run bench:scale [-- --quick | --keys N | --store lmdb]`. A whole run writes
// bench/build/scale.json, docs/SCALING.md, its plots, and its part of BENCHMARKS.md where the results of `npm run bench` lie beside it;
// another one only prints what it measured. `--report FILE.json` makes the documents from results and measures nothing.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { describeMachine } from '../bench/machine.js';
import { BUILD, buildPrograms, installPeers, ROOT } from '../bench/programs.js';
import { progressOf } from '../bench/progress.js';
import { writeReport } from '../bench/report.js';
import { lastResults, SCALE_RESULTS, scalingText, writeScaling } from '../bench/scale/documents.js';
import { measurePlace } from '../bench/scale/measure.js';
import {
  CACHED_KEYS,
  HOT_KEYS,
  IN_FLIGHT,
  placesOf,
  planOf,
  RECORD_BYTES,
  SERVED_RATE,
  SHAPE,
  STORES,
} from '../bench/scale/plan.js';

const BUILT = ['dist/index.js', 'dist/cli/main.js', 'build/Release/progressdb_kms.node'];

function parseFlags() {
  const options = {
    quick: { type: 'boolean', default: false },
    keys: { type: 'string' },
    store: { type: 'string' },
    report: { type: 'string' },
  };
  const { values } = parseArgs({ options });
  const keys = values.keys === undefined ? undefined : Number(values.keys);
  if (keys !== undefined && !(Number.isSafeInteger(keys) && keys >= 100))
    throw new Error('--keys takes a whole number from 100 on');
  if (values.store !== undefined && !STORES.includes(values.store)) throw new Error(`--store takes ${STORES.join(' or ')}`);
  return { ...values, keys };
}

function refuseUnbuilt() {
  const missing = BUILT.filter((path) => !existsSync(join(ROOT, path)));
  if (missing.length > 0) throw new Error(`not built: ${missing.join(', ')} (\`npm run build\`)`);
}

/** `keep` is given what there is whenever there is more: a run that ends early was not in vain. */
async function measureAll(run, plan, places, keep) {
  const measured = [];
  const progress = progressOf(places.length);
  try {
    for (const [done, place] of places.entries()) {
      progress.begin(`${place.store}, ${place.keys} keys`, done);
      measured.push(await measurePlace({ ...run, say: progress.say }, plan, place));
      progress.ended();
      keep(measured);
    }
  } finally {
    progress.stop();
  }
  return measured;
}

const write = (path, results) => writeFileSync(path, `${JSON.stringify(results, null, 2)}\n`);

/** `scratch`: a directory on the disk that is measured. */
async function measure({ quick, keys, store }) {
  refuseUnbuilt();
  const programs = buildPrograms();
  const scratch = mkdtempSync(join(tmpdir(), 'kms-scale-'));
  process.once('exit', () => rmSync(scratch, { recursive: true, force: true }));
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(130));
  const plan = planOf({ quick, keys });
  const places = placesOf(plan).filter((place) => store === undefined || place.store === store);
  const run = { programs, scratch, product: pathToFileURL(join(ROOT, 'dist/index.js')).href };
  const cache = { cachedKeys: CACHED_KEYS, hotKeys: HOT_KEYS };
  const how = { ...cache, recordBytes: RECORD_BYTES, inFlight: IN_FLIGHT, servedRate: SERVED_RATE, shape: SHAPE.join(' x ') };
  const about = { ...describeMachine(quick), ...how };
  const keep = (measured) => write(join(BUILD, 'scale-part.json'), { ...about, places: measured });
  const results = { ...about, places: await measureAll(run, plan, places, keep) };
  const isWhole = !quick && keys === undefined && store === undefined;
  if (!isWhole) {
    process.stdout.write(scalingText(results));
    return;
  }
  write(SCALE_RESULTS, results);
  await report(results);
}

/** BENCHMARKS.md is made anew as a whole, with what `npm run bench` measured last. */
async function report(scale) {
  const others = lastResults();
  if (others !== undefined) await writeReport({ ...others, scale }, ROOT);
  else process.stderr.write('scale: no bench/build/results.json of `npm run bench`: BENCHMARKS.md stays as it is\n');
  process.stdout.write(await writeScaling(scale, ROOT));
}

async function main() {
  const flags = parseFlags();
  installPeers();
  if (flags.report === undefined) return measure(flags);
  const results = JSON.parse(readFileSync(flags.report, 'utf8'));
  if (!Array.isArray(results.places)) throw new Error(`${flags.report} is not the results of \`npm run bench:scale\``);
  await report(results);
}

main().catch((error) => {
  process.stderr.write(`scale: ${error.stack}\n`);
  process.exitCode = 1;
});
