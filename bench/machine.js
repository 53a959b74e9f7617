// Where and with what a run is made.
import { existsSync, readFileSync } from 'node:fs';
import { cpus, release, totalmem, type } from 'node:os';
import { join } from 'node:path';
import { PINNED } from './processes.js';
import { ROOT } from './programs.js';

const versionOf = (path) => JSON.parse(readFileSync(path, 'utf8')).version;

/** `packages`: folders with a package.json whose versions belong to it, by their names. */
export function describeMachine(quick, packages = {}) {
  const versions = Object.entries(packages).filter(([, folder]) => existsSync(folder));
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
      ...Object.fromEntries(versions.map(([name, folder]) => [name, versionOf(join(folder, 'package.json'))])),
    },
  };
}
