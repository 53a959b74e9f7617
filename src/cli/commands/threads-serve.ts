import { errorFields, jsonLog, type Log } from '../../daemon/log.js';
import { BACKUP_SWEEP_MS } from '../../limits.js';
import type { Output } from '../output.js';
import { readAdminToken } from '../threads/admin-token.js';
import { listen, placeOf, stop, threadsServer } from '../threads/server.js';
import { openThreadService, type ThreadService } from '../threads/service.js';
import type { ThreadSettings } from '../threads/settings.js';

const DEFAULT_LISTEN = '127.0.0.1:6821';

/** Serves until SIGTERM or SIGINT. Resolves with the exit code. */
export async function serveThreadsCommand(
  address: string | undefined,
  settings: ThreadSettings,
  output: Output,
): Promise<number> {
  const place = placeOf(address ?? DEFAULT_LISTEN);
  const adminToken = settings.adminTokenFile === undefined ? undefined : readAdminToken(settings.adminTokenFile);
  const log = jsonLog(output.verbose ? 'debug' : 'info');
  const signalled = new Promise<string>((done) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => done(signal));
  });
  const service = await openThreadService(settings, 'work');
  const app = await threadsServer(service, place, adminToken, log);
  try {
    await listen(app, place);
    log('info', 'listening', {
      address: 'path' in place ? place.path : `${place.host}:${place.port}`,
      store: settings.store.value,
      encryption: settings.usesEncryption ? settings.mode : 'none',
      admin: adminToken !== undefined,
    });
    const sweeping = sweep(service, log);
    log('info', 'signal', { signal: await signalled });
    clearInterval(sweeping);
  } finally {
    await stop(app);
    await service.close();
  }
  return 0;
}

/** A start sweeps, too. */
function sweep({ threads }: ThreadService, log: Log): NodeJS.Timeout {
  return setInterval(() => {
    threads.sweepBackups().then(
      (jobs) => log('debug', 'backups_swept', { jobs }),
      (error) => log('error', 'backup_sweep_failed', errorFields(error)),
    );
  }, BACKUP_SWEEP_MS);
}
