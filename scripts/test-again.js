// `node scripts/test-again.js LOG`: runs the test files that failed in `npm test`, whose output LOG is, three more times, each file alone.
// Ends with 0 if each of them passed each time: then it is a machine that stalled, or a race that shows beside others. It is told either
// way. What failed in no file that can be named, or in more than a few, is not run again; nor is what looks for defects at random: it has
// found one, whether or not it finds it once more.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const TIMES = 3;
const MAX_FILES = 4;
const AT_RANDOM = /crash\/|secrets\/|seed|fast-check|random\(|kill/i;

/** Of `✘ [fail]: daemon › workers › pool › a title` the first words are the file's path; of one that died the path is there as it is. */
function fileOf(line) {
  const [path] = /\btest\/\S+\.test\.ts\b/.exec(line) ?? [];
  if (path !== undefined) return path;
  const words = line.replace(/^\s*✘ (\[fail\]: )?/, '').split(' › ');
  for (let taken = words.length; taken > 0; taken -= 1) {
    const file = `test/${words.slice(0, taken).join('/')}.test.ts`;
    if (existsSync(file)) return file;
  }
  return undefined;
}

/** What it says, and what the test files say that it runs in another way. */
function textOf(file) {
  const text = readFileSync(file, 'utf8');
  const others = [...text.matchAll(/^import '(\S+\.test)\.js';/gm)].map(([, other]) => join(dirname(file), `${other}.ts`));
  return [file, text, ...others.map(textOf)].join('\n');
}

function refusal() {
  if (files.length === 0 || files.includes(undefined)) return 'what failed is in no test file that is named';
  if (files.length > MAX_FILES) return `failures in ${files.length} files`;
  const random = files.find((file) => AT_RANDOM.test(textOf(file)));
  return random && `${random} looks for defects at random`;
}

const log = readFileSync(process.argv[2], 'utf8');
const failures = log.split('\n').filter((line) => /^\s*✘ /.test(line));
const files = [...new Set(failures.map(fileOf))];
const why = refusal();
if (why !== undefined) {
  console.log(`not run again: ${why}`);
  process.exit(1);
}

let failed = 0;
for (const file of files) {
  for (let time = 1; time <= TIMES; time += 1) {
    const { status, stdout } = spawnSync('npx', ['ava', file], { encoding: 'utf8', maxBuffer: 2 ** 28 });
    console.log(`${status === 0 ? 'passed' : 'FAILED'} alone, ${time} of ${TIMES}: ${file}`);
    if (status === 0) continue;
    console.log(stdout);
    failed += 1;
  }
}
process.exit(failed === 0 ? 0 : 1);
