// Counts a program's instructions: https://valgrind.org/docs/manual/cl-format.html
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';

/**
 * The same string functions of the C library on every processor. What they are chosen by is cleared; valgrind itself shows no
 * program more than AVX2.
 */
const ANY_PROCESSOR = 'glibc.cpu.hwcaps=-AVX2,-AVX2_Usable,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM';

/** OpenSSL's instructions depend on its version and on the processor. In node it has no object of its own: we call only these. */
const isOpenssl = (object, name) => basename(object).startsWith('libcrypto') || /^(EVP_|ossl_gcm_)/.test(name);

/** Names are written out once, `(4) name`, and are `(4)` from then on. Functions have a list of their own, and so have objects. */
class Names {
  #known = new Map();

  read(text) {
    const [, number, name] = /^\((\d+)\)(?: (.*))?$/.exec(text);
    if (name !== undefined) this.#known.set(number, name);
    return this.#known.get(number);
  }
}

/** A dump's trigger, and its instructions without those between a call into OpenSSL and its return. */
function readDump(text) {
  const objects = new Names();
  const functions = new Names();
  let trigger;
  let instructions = 0;
  const caller = { object: '', name: '' };
  let called = { object: '', name: '' };
  let isCall = false;
  for (const line of text.split('\n')) {
    const [, key, value] = /^([a-z]+)[=:] ?(.*)$/.exec(line) ?? [];
    if (key === 'desc' && value.startsWith('Trigger: Client Request: '))
      trigger = value.slice('Trigger: Client Request: '.length);
    else if (key === 'ob') caller.object = called.object = objects.read(value);
    else if (key === 'fn') caller.name = functions.read(value);
    else if (key === 'cob') called.object = objects.read(value);
    else if (key === 'cfn') called.name = functions.read(value);
    else if (key === 'calls') isCall = true;
    else if (/^[+*\-\d]/.test(line)) {
      const cost = Number(line.split(' ')[1] ?? 0);
      if (!isCall) instructions += cost;
      else if (!isOpenssl(caller.object, caller.name) && isOpenssl(called.object, called.name)) instructions -= cost;
      if (isCall) called = { object: caller.object, name: '' };
      isCall = false;
    }
  }
  return { trigger, instructions };
}

/**
 * Runs a program that dumps what it has counted as `<operations> x <name>`, and gives back the instructions of one operation by
 * name: of several dumps of one name the fewest, without what came in between. The dumps stay in `dir`.
 */
export function countInstructions(command, dir, name) {
  const prefix = `${name}.callgrind`;
  const options = ['-q', '--tool=callgrind', '--collect-atstart=no', `--callgrind-out-file=${join(dir, prefix)}`];
  execFileSync('valgrind', [...options, ...command], {
    env: { ...process.env, GLIBC_TUNABLES: ANY_PROCESSOR },
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: 300_000,
  });
  const counts = {};
  const dumps = readdirSync(dir).filter((file) => file.startsWith(`${prefix}.`));
  for (const file of dumps.sort((a, b) => Number(a.slice(prefix.length + 1)) - Number(b.slice(prefix.length + 1)))) {
    const { trigger, instructions } = readDump(readFileSync(join(dir, file), 'utf8'));
    const [, operations, operation] = /^(\d+) x (.*)$/.exec(trigger ?? '') ?? [];
    if (operation === undefined) continue;
    counts[operation] = Math.min(counts[operation] ?? Infinity, instructions / Number(operations));
  }
  return counts;
}
