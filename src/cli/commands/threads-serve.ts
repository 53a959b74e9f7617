import { errorFields, jsonLog, type Log } from '../../daemon/log.js';
import { BACKUP_SWEEP_MS } from '../../limits.js';
import type { HeldSocket } from '../../listening.js';
import type { Recovered } from '../../threads/threads.js';
import type { Output } from '../output.js';
import { readAdminToken } from '../threads/admin-token.js';
import { listen, placeOf, stop, threadsServer } from '../threads/server.js';
import { openThreadService, type ThreadService } from '../threads/service.js';
import type { ThreadSettings } from '../threads/settings.js';

/** Of each kind. */
const MAX_TOLD = 100;
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
  let held: HeldSocket | undefined;
  try {
    held = await listen(app, place);
    log('info', 'listening', {
      address: 'path' in place ? place.path : `${place.host}:${place.port}`,
      store: settings.store.value,
      encryption: settings.usesEncryption ? settings.mode : 'none',
      admin: adminToken !== undefined,
    });
    if (service.threads.recovered !== undefined) tell(service.threads.recovered, log);
    const sweeping = recoverLater(service, log);
    log('info', 'signal', { signal: await signalled });
    clearInterval(sweeping);
  } finally {
    // While it still listens: afterwards somebody may have taken it for a stale one, and put his own there.
    held?.close();
    await stop(app);
    await service.close();
  }
  return 0;
}

/** A start does it, too. What it could not end because the key service was away is tried again here. */
function recoverLater({ threads }: ThreadService, log: Log): NodeJS.Timeout {
  return setInterval(() => {
    threads.recover().then(
      (recovered) => tell(recovered, log),
      (error) => log('error', 'recovery_failed', errorFields(error)),
    );
  }, BACKUP_SWEEP_MS);
}

/** Ids and reasons: what there is of each may be much, and the first are enough to look. */
function tell({ purged, jobs, orphans, ...left }: Recovered, log: Log): void {
  const { adopted, destroyed, unknown } = orphans;
  log('info', 'recovered', { purged: purged.length, jobs: jobs.length, keys: adopted.length + destroyed.length });
  const { unpurged, unreaped, unswept, uncompacted } = left;
  for (const { threadId, reason } of unpurged.slice(0, MAX_TOLD)) log('warn', 'purge_left', { thread_id: threadId, reason });
  for (const { threadId, reason } of unreaped.slice(0, MAX_TOLD)) log('warn', 'key_search_left', { thread_id: threadId, reason });
  for (const { jobId, reason } of unswept.slice(0, MAX_TOLD)) log('warn', 'backups_left', { job_id: jobId, reason });
  if (uncompacted !== null) log('warn', 'compaction_left', { reason: uncompacted });
  if (unknown.length > 0) log('warn', 'keys_unknown', { threads: unknown.slice(0, MAX_TOLD).join(' ') });
}
