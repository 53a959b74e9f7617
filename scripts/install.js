// What npm runs after it has laid the package down: a prebuilt addon that loads here is kept, else one is built from source. A
// checkout always builds: a prebuilt addon that lies there may be older than its sources.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const IS_CHECKOUT = existsSync(new URL('../src/native.ts', import.meta.url));
const { npm_config_build_from_source: asked, npm_config_node_gyp: nodeGyp } = process.env;

/** The exit code. */
function run(command, args, stdio) {
  const { status, error } = spawnSync(command, args, { cwd: ROOT, stdio });
  if (error !== undefined) console.error(`progressdb-kms: cannot run ${command}: ${error.message}`);
  return status ?? 1;
}

/**
 * Loads it as the product does and lets its cipher prove itself, in a process of its own: what was made for another system may
 * crash. The keys' memory is the smallest there is, since an installer may lock none.
 */
function prebuiltWorks() {
  const probe = "import('./dist/native.js').then(({ binding }) => binding.initialise(65536, 0))";
  return run(process.execPath, ['-e', probe], 'ignore') === 0;
}

function build() {
  if (nodeGyp !== undefined) return run(process.execPath, [nodeGyp, 'rebuild'], 'inherit');
  return run('node-gyp', ['rebuild'], 'inherit');
}

if (IS_CHECKOUT || asked === 'true' || !prebuiltWorks()) process.exitCode = build();
