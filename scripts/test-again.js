// `node scripts/test-again.js LOG`: runs the test files that failed in `npm test`, whose output LOG is, three more times, each file alone.
// Ends with 0 if each of them passed each time: then it is a machine that stalled, or a race that shows beside others. It is told either
// way. What failed in no file that can be named, or in more than a few, is not run again.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';

const TIMES = 3;
const MAX_FILES = 4;

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

const log = readFileSync(process.argv[2], 'utf8');
const failures = log.split('\n').filter((line) => /^\s*✘ /.test(line));
const files = [...new Set(failures.map(fileOf))];
if (files.length === 0 || files.length > MAX_FILES || files.includes(undefined)) {
  console.log(
    `not run again: ${failures.length} lines of failures, in ${files.includes(undefined) ? 'what is no test file' : `${files.length} test files`}`,
  );
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
