import { availableParallelism, cpus, release, tmpdir, totalmem, type } from 'node:os';
import { versionOfPackage } from '../version.js';

/** Where and with what something was measured. */
export interface Setting {
  at: string;
  machine: { cpu: string; cores: number; memoryGib: number; os: string; architecture: string; temporaryDirectory: string };
  versions: { node: string; openssl: string; product: string };
}

export function settingOf(now: Date): Setting {
  return {
    at: now.toISOString(),
    machine: {
      cpu: cpus()[0]?.model.trim() ?? 'unknown processor',
      cores: availableParallelism(),
      memoryGib: Math.round(totalmem() / 2 ** 30),
      os: `${type()} ${release()}`,
      architecture: process.arch,
      temporaryDirectory: tmpdir(),
    },
    versions: { node: process.versions.node, openssl: process.versions.openssl, product: versionOfPackage() },
  };
}
