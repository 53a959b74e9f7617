import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type DaemonFlags, resolveConfig } from '../../daemon/config.js';
import { jsonLog } from '../../daemon/log.js';
import type { Output } from '../output.js';

/** Runs the daemon until SIGTERM or SIGINT. Resolves with the exit code. */
export async function serveCommand(flags: DaemonFlags, env: NodeJS.ProcessEnv, output: Output): Promise<number> {
  const config = resolveConfig(flags, env);
  const { runDaemon } = await import('../../daemon/main.js');
  const { dataDir } = config;
  if (dataDir !== undefined && config.initialise && !existsSync(join(dataDir, 'keyring.json'))) {
    output.note(`${dataDir} holds no key store yet: making one, since --no-init is not given`);
  }
  return await runDaemon(config, jsonLog(output.verbose ? 'debug' : 'info'));
}
