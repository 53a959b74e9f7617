// node scripts/wycheproof.js FROM.json TO.txt: the AES-GCM vectors with 256-bit keys, 96-bit nonces and 128-bit tags, as the
// lines that native/test/wycheproof.cc reads.
import { readFileSync, writeFileSync } from 'node:fs';

const [from, to] = process.argv.slice(2);
if (to === undefined) {
  console.error('usage: node scripts/wycheproof.js FROM.json TO.txt');
  process.exit(2);
}
const { testGroups } = JSON.parse(readFileSync(from, 'utf8'));
const tests = testGroups
  .filter((group) => group.keySize === 256 && group.ivSize === 96 && group.tagSize === 128)
  .flatMap((group) => group.tests);
const lines = tests.map(({ key, iv, aad, msg, ct, tag, result }) =>
  [key, iv, aad, msg, ct, tag]
    .map((field) => field || '-')
    .concat(result)
    .join(' '),
);
writeFileSync(to, `${lines.join('\n')}\n`);
