import type { FastifyInstance } from 'fastify';
import { KmsError } from '../errors.js';
import type { Threads } from '../threads/threads.js';
import type { AdminAction, Authorize, ThreadAction } from './access.js';
import { addAdminRoutes } from './admin-routes.js';
import { compileMembers } from './members.js';
import { answerError } from './refusals.js';
import { addThreadRoutes } from './thread-routes.js';

export type { AdminAction, Authorize, ThreadAction } from './access.js';

/** As long as a thread's or a message's id may be. */
const LONGEST_ID = 256;

export interface ThreadsPluginOptions {
  /** Stay the caller's, to close when the application is closed. */
  threads: Threads;
  /** Asked for each request to an endpoint of administrators, before its body is read. */
  authorize: Authorize<AdminAction>;
  /** Asked for each of the others, with its body; without it, whoever reaches the application may use them. */
  authorizeThread?: Authorize<ThreadAction>;
}

/**
 * Threads as HTTP/JSON, docs/THREADS.md. Rejects with INVALID_ARGUMENT without `threads` or `authorize`, and where the application
 * would take shorter ids in paths than there may be.
 */
export async function threadsPlugin(app: FastifyInstance, options: ThreadsPluginOptions): Promise<void> {
  const { threads, authorize, authorizeThread } = options;
  if (threads === undefined) throw new KmsError('INVALID_ARGUMENT', 'threadsPlugin needs `threads`, which openThreads gives');
  if (typeof authorize !== 'function') {
    throw new KmsError(
      'INVALID_ARGUMENT',
      'threadsPlugin needs `authorize(request, action)`: who may use the endpoints of administrators',
    );
  }
  if (authorizeThread !== undefined && typeof authorizeThread !== 'function') {
    throw new KmsError('INVALID_ARGUMENT', 'authorizeThread(request, action) is a function');
  }
  if ((app.initialConfig.routerOptions?.maxParamLength ?? 0) < LONGEST_ID) {
    throw new KmsError('INVALID_ARGUMENT', `threadsPlugin needs Fastify({ routerOptions: { maxParamLength: ${LONGEST_ID} } })`);
  }
  app.setValidatorCompiler(compileMembers);
  app.setErrorHandler(answerError);
  takeJson(app);
  app.addHook('onSend', async (_request, reply) => {
    reply.header('cache-control', 'no-store');
  });
  addThreadRoutes(app, threads, authorizeThread);
  addAdminRoutes(app, threads, authorize);
}

/** A message may hold any member, `__proto__` too, which Fastify's own parser refuses: whoever copies one here defines it. */
function takeJson(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  const utf8 = new TextDecoder('utf-8', { fatal: true });
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, bytes, done) => {
    if (bytes.length === 0) return done(null, undefined);
    try {
      done(null, JSON.parse(utf8.decode(bytes as Buffer)));
    } catch {
      // The parser's own message quotes the text.
      done(new KmsError('INVALID_ARGUMENT', 'the body is not JSON'));
    }
  });
}
