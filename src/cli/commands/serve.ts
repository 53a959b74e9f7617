import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type DaemonConfig, type DaemonFlags, resolveConfig } from '../../daemon/config.js';
import type { Output } from '../output.js';

export interface ServeFlags extends DaemonFlags {
  checkConfig?: boolean | undefined;
}

/** Runs the daemon until SIGTERM or SIGINT. Resolves with the exit code. */
export async function serveCommand(flags: ServeFlags, env: NodeJS.ProcessEnv, output: Output): Promise<number> {
  const config = resolveConfig(flags, env);
  if (flags.checkConfig) return reportChecked(config, output);
  const { runDaemon } = await import('../../daemon/main.js');
  const { dataDir } = config;
  const isInDirectory = dataDir !== undefined && typeof config.store !== 'object';
  if (isInDirectory && config.initialise && !existsSync(join(dataDir, 'keyring.json'))) {
    output.note(`${dataDir} holds no key store yet: making one, since --no-init is not given`);
  }
  return await runDaemon(config, () => resolveConfig(flags, env));
}

function reportChecked({ warnings, masterKeyBytes }: DaemonConfig, output: Output): number {
  masterKeyBytes?.fill(0);
  for (const { source, advice } of warnings) output.note(`warning: ${source}: ${advice}`);
  output.result({ ok: true, warnings }, 'ok');
  return 0;
}
