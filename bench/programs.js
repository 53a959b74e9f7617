// Builds what the benchmark runs beside the product: the floor addon, the C echo server and the load generators.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const BENCH = dirname(fileURLToPath(import.meta.url));
export const ROOT = dirname(BENCH);
export const BUILD = join(BENCH, 'build');

const SHARED_HEADERS = ['frame.h', 'server_cpu.h', 'due.h', 'loops.h', 'connections.h', 'request.h'];
const C = ['-x', 'c', '-std=gnu11', '-O2', '-Wall', '-Wextra'];

/** The headers of a node: the floor must be compiled for the OpenSSL that it will find in the process. */
export function nodeHeaders(execPath = process.execPath, version = process.version) {
  const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache');
  const places = [
    join(dirname(dirname(execPath)), 'include/node'),
    execPath === process.execPath && process.env.npm_config_nodedir && join(process.env.npm_config_nodedir, 'include/node'),
    join(cache, 'node-gyp', version.slice(1), 'include/node'),
  ].filter(Boolean);
  const found = places.find((place) => existsSync(join(place, 'openssl/evp.h')));
  if (!found) throw new Error(`no headers of node ${version} in ${places.join(', ')}`);
  return found;
}

function compile(source, output, flags) {
  const target = join(BUILD, output);
  const inputs = [source, ...SHARED_HEADERS].map((name) => join(BENCH, name));
  if (existsSync(target) && inputs.every((input) => statSync(input).mtimeMs < statSync(target).mtimeMs)) return target;
  execFileSync('g++', [...flags, '-o', target, join(BENCH, source)], { stdio: ['ignore', 'inherit', 'inherit'] });
  return target;
}

/** The floor addon for one node. The version in the name: an addon left by another node is not loaded into this one. */
export function buildFloor(execPath = process.execPath, version = process.version) {
  const flags = ['-std=c++17', '-O2', '-fPIC', '-shared', '-fno-exceptions', '-DNAPI_VERSION=9'];
  return compile('floor.cc', `floor-${version}.node`, [...flags, '-isystem', nodeHeaders(execPath, version)]);
}

/** Paths of the built programs. */
export function buildPrograms() {
  mkdirSync(BUILD, { recursive: true });
  return {
    floor: buildFloor(),
    echo: compile('echo.c', 'echo', C),
    load: compile('load.c', 'load', C),
    scatter: compile('scatter.c', 'scatter', C),
    httpLoad: compile('http_load.c', 'http_load', C),
  };
}

/** Installs the libraries compared with, at the versions of the lock file. */
export function installPeers() {
  if (existsSync(join(BENCH, 'node_modules'))) return;
  const result = spawnSync('npm', ['ci', '--silent', '--no-audit', '--no-fund', '--prefix', BENCH], { stdio: 'inherit' });
  if (result.status !== 0) throw new Error('the peers could not be installed (npm ci --prefix bench)');
}
