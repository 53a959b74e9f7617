import type { FastifyInstance, FastifyRequest, preHandlerAsyncHookHandler } from 'fastify';
import type { z } from 'zod';
import { KmsError } from '../errors.js';
import { MAX_MESSAGE_BODY_BYTES } from '../limits.js';
import type { MessageQuery as PageAsked } from '../threads/thread.js';
import type { Threads } from '../threads/threads.js';
import { type Authorize, admit, type ThreadAction } from './access.js';
import { messageForm, wireForm } from './answers.js';
import { EditBody, MessageQuery, NewMessageBody, NewThreadBody, NoBody } from './members.js';

interface ThreadParams {
  thread_id: string;
}

interface MessageParams extends ThreadParams {
  message_id: string;
}

type Page = z.infer<typeof MessageQuery>;

/** Without what was not given. */
function asked({ limit, cursor, reverse }: Page): PageAsked {
  return {
    ...(limit !== undefined && { limit }),
    ...(cursor !== undefined && { cursor }),
    ...(reverse !== undefined && { reverse }),
  };
}

const THREAD = '/threads/:thread_id';
const MESSAGES = `${THREAD}/messages`;
const MESSAGE = `${MESSAGES}/:message_id`;

/** What users do: make a thread, and read and write its messages. */
export function addThreadRoutes(app: FastifyInstance, threads: Threads, authorize: Authorize<ThreadAction> | undefined): void {
  // Where the body is read: whoever decides may go by the thread that is to be made.
  const may = (action: ThreadAction): { preHandler: preHandlerAsyncHookHandler } => ({
    preHandler: async (request: FastifyRequest) => admit(authorize, request, action),
  });

  app.post<{ Body: z.infer<typeof NewThreadBody> }>(
    '/threads',
    { ...may('create_thread'), schema: { body: NewThreadBody } },
    async ({ body }, reply) => {
      const { thread_id: threadId, title } = body;
      const made = await threads.createThread({
        ...(threadId !== undefined && { threadId }),
        ...(title !== undefined && { title }),
      });
      return reply.code(201).send(wireForm(made));
    },
  );

  app.get<{ Params: ThreadParams }>(THREAD, may('read_thread'), async ({ params }) => {
    const thread = await threads.thread(params.thread_id);
    if (thread === undefined) throw new KmsError('NOT_FOUND', `thread ${params.thread_id}`);
    return wireForm(thread);
  });

  app.post<{ Params: ThreadParams; Body: z.infer<typeof NewMessageBody> }>(
    MESSAGES,
    { ...may('append_message'), bodyLimit: MAX_MESSAGE_BODY_BYTES, schema: { body: NewMessageBody } },
    async ({ params, body: { body, author } }, reply) => {
      const made = await threads.append(params.thread_id, { body, ...(author !== undefined && { author }) });
      return reply.code(201).send(messageForm(made));
    },
  );

  app.get<{ Params: ThreadParams; Querystring: Page }>(
    MESSAGES,
    { ...may('read_messages'), schema: { querystring: MessageQuery } },
    async ({ params, query }) => {
      const { messages, next } = await threads.list(params.thread_id, asked(query));
      return { messages: messages.map(messageForm), next };
    },
  );

  app.get<{ Params: MessageParams }>(MESSAGE, may('read_messages'), async ({ params }) => {
    const message = await threads.read(params.thread_id, params.message_id);
    if (message === undefined) throw new KmsError('NOT_FOUND', `message ${params.message_id}`);
    // Asked for alone, it is what the request comes to.
    if (message.error !== null) throw message.error;
    return messageForm(message);
  });

  app.put<{ Params: MessageParams; Body: z.infer<typeof EditBody> }>(
    MESSAGE,
    { ...may('edit_message'), bodyLimit: MAX_MESSAGE_BODY_BYTES, schema: { body: EditBody } },
    async ({ params, body }) => messageForm(await threads.edit(params.thread_id, params.message_id, body.body)),
  );

  app.delete<{ Params: MessageParams }>(MESSAGE, { ...may('delete_message'), schema: { body: NoBody } }, async ({ params }) => {
    await threads.delete(params.thread_id, params.message_id);
    return { status: 'ok' };
  });

  app.get<{ Params: MessageParams; Querystring: Page }>(
    `${MESSAGE}/versions`,
    { ...may('read_messages'), schema: { querystring: MessageQuery } },
    async ({ params, query }) => {
      const { versions, next } = await threads.versions(params.thread_id, params.message_id, asked(query));
      return { versions: versions.map(messageForm), next };
    },
  );
}
