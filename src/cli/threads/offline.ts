import type { ServerResponse } from 'node:http';
import type { FastifyInstance } from 'fastify';
import { threadsPlugin } from '../../fastify/index.js';
import type { Answer, ThreadsAccess } from './access.js';
import { loadFastify } from './fastify.js';
import { refusalIn } from './refusal.js';
import { openThreadService, type Purpose, type ThreadService } from './service.js';
import type { ThreadSettings } from './settings.js';

/** The endpoints without a network: whoever may open the store may do everything. */
export async function openOfflineThreads(settings: ThreadSettings, purpose: Purpose): Promise<ThreadsAccess> {
  const fastify = await loadFastify();
  const service = await openThreadService(settings, purpose);
  const app = fastify({ routerOptions: { maxParamLength: 256 } });
  const thrown: Thrown = new WeakMap();
  app.addHook('onError', async (_request, reply, error) => {
    thrown.set(reply.raw, error);
  });
  await app.register(threadsPlugin, { threads: service.threads, authorize: () => true });
  return new OfflineThreads(app, service, thrown);
}

/** What was thrown for an answer, with the details that this leaves out. */
type Thrown = WeakMap<ServerResponse, Error>;

class OfflineThreads implements ThreadsAccess {
  readonly isOffline = true;
  readonly #app: FastifyInstance;
  readonly #service: ThreadService;
  readonly #thrown: Thrown;

  constructor(app: FastifyInstance, service: ThreadService, thrown: Thrown) {
    this.#app = app;
    this.#service = service;
    this.#thrown = thrown;
  }

  async ask(method: 'GET' | 'POST' | 'DELETE', url: string, body?: object): Promise<Answer> {
    const answer = await this.#app.inject({ method, url, ...(body !== undefined && { payload: body }) });
    if (answer.statusCode < 400) return answer.json();
    throw this.#thrown.get(answer.raw.res) ?? refusalIn(answer.body, answer.statusCode);
  }

  async close(): Promise<void> {
    await this.#app.close();
    await this.#service.close();
  }
}
