import type { FastifyInstance, FastifyReply, FastifyRequest, onRequestAsyncHookHandler } from 'fastify';
import type { z } from 'zod';
import { errorTold } from '../errors.js';
import { MAX_THREAD_LIST_BODY_BYTES } from '../limits.js';
import type { Threads } from '../threads/threads.js';
import { type AdminAction, type Authorize, admit } from './access.js';
import { wireForm } from './answers.js';
import { beginEncryption } from './encryption.js';
import { EncryptBody, JobQuery, NoBody, RewrapBody, RotateBody, ThreadQuery } from './members.js';
import { beginRotation } from './rotation.js';

interface JobParams {
  job_id: string;
}

const JOB = '/admin/jobs/:job_id';
const ORDERS = { pause: 'pauseJob', resume: 'resumeJob', cancel: 'cancelJob' } as const;

/** What administrators do. */
export function addAdminRoutes(app: FastifyInstance, threads: Threads, authorize: Authorize<AdminAction>): void {
  // Before a body is read.
  const only = (action: AdminAction): { onRequest: onRequestAsyncHookHandler; bodyLimit: number } => ({
    onRequest: async (request: FastifyRequest) => admit(authorize, request, action),
    bodyLimit: MAX_THREAD_LIST_BODY_BYTES,
  });

  app.get<{ Querystring: z.infer<typeof ThreadQuery> }>(
    '/admin/threads',
    { ...only('list_threads'), schema: { querystring: ThreadQuery } },
    async ({ query: { limit, cursor } }) =>
      wireForm(await threads.listThreads({ ...(limit !== undefined && { limit }), ...(cursor !== undefined && { cursor }) })),
  );

  app.delete<{ Params: { thread_id: string } }>(
    '/threads/:thread_id',
    { ...only('purge_thread'), schema: { body: NoBody } },
    async ({ params }) => {
      await threads.purge(params.thread_id);
      return { status: 'ok' };
    },
  );

  const rotate = async ({ body }: { body: z.infer<typeof RotateBody> }, reply: FastifyReply) =>
    beginRotation(threads, body, reply);
  for (const path of ['/admin/rotate_thread_dek', '/admin/encryption/rotate-thread-dek']) {
    app.post<{ Body: z.infer<typeof RotateBody> }>(path, { ...only('rotate_thread_dek'), schema: { body: RotateBody } }, rotate);
  }

  app.post<{ Body: z.infer<typeof RewrapBody> }>(
    '/admin/encryption/rewrap-deks',
    { ...only('rewrap_deks'), schema: { body: RewrapBody } },
    async ({ body: { thread_ids: threadIds, parallelism } }) => {
      const { failures, ...counts } = await threads.rewrapDeks(threadIds ?? 'all', {
        ...(parallelism !== undefined && { parallelism }),
      });
      const told = failures.map(({ threadId, error }) => ({ thread_id: threadId, error: errorTold(error) }));
      return { status: 'ok', ...counts, failures: told };
    },
  );

  app.post<{ Body: z.infer<typeof EncryptBody> }>(
    '/admin/encryption/encrypt-existing',
    { ...only('encrypt_existing'), schema: { body: EncryptBody } },
    async ({ body }) => beginEncryption(threads, body),
  );

  app.post('/admin/encryption/compact', { ...only('encrypt_existing'), schema: { body: NoBody } }, async () => ({
    status: 'ok',
    compacted: await threads.compactStore(),
  }));

  addJobRoutes(app, threads, only);
}

function addJobRoutes(
  app: FastifyInstance,
  threads: Threads,
  only: (action: AdminAction) => { onRequest: onRequestAsyncHookHandler; bodyLimit: number },
): void {
  app.get<{ Querystring: z.infer<typeof JobQuery> }>(
    '/admin/jobs',
    { ...only('read_jobs'), schema: { querystring: JobQuery } },
    async ({ query: { limit, cursor, reverse } }) =>
      wireForm(
        await threads.jobs({
          ...(limit !== undefined && { limit }),
          ...(cursor !== undefined && { cursor }),
          ...(reverse !== undefined && { reverse }),
        }),
      ),
  );

  app.get<{ Params: JobParams }>(JOB, only('read_jobs'), async ({ params }) => wireForm(await threads.job(params.job_id)));

  for (const [order, method] of Object.entries(ORDERS) as Array<[string, (typeof ORDERS)[keyof typeof ORDERS]]>) {
    app.post<{ Params: JobParams }>(`${JOB}/${order}`, { ...only('change_job'), schema: { body: NoBody } }, async ({ params }) =>
      wireForm(await threads[method](params.job_id)),
    );
  }

  app.post<{ Params: JobParams }>(
    `${JOB}/restore-backup`,
    { ...only('restore_backup'), schema: { body: NoBody } },
    async ({ params }) => ({ status: 'ok', ...(await threads.restoreBackup(params.job_id)) }),
  );
}
