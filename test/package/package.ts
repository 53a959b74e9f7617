import { execFileSync } from 'node:child_process';

export interface Packed {
  files: Array<{ path: string; mode: number }>;
  /** Of the tarball, and of what it holds, in bytes. */
  size: number;
  unpackedSize: number;
}

/** What `npm pack` would put into the package, with `dist/` and `prebuilds/` as they are. */
export function packed(): Packed {
  const listing = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    encoding: 'utf8',
    // Else it may ask the registry for a newer npm.
    env: { ...process.env, npm_config_offline: 'true', npm_config_update_notifier: 'false' },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return (JSON.parse(listing) as [Packed])[0];
}
