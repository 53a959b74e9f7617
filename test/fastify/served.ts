import type { ExecutionContext } from 'ava';
import Fastify, { type FastifyInstance } from 'fastify';
import { createEmbeddedKms, type EmbeddedKms } from '../../dist/create.js';
import { type ThreadsPluginOptions, threadsPlugin } from '../../dist/fastify/index.js';
import { binding } from '../../dist/native.js';
import type { Provider } from '../../dist/provider.js';
import { openMemoryThreadStore, openThreads, type ThreadStore, type Threads } from '../../dist/threads/index.js';
import { scratch } from '../daemon/running.js';

/** Whatever JSON is read as. */
export type Answered = ReturnType<typeof JSON.parse>;

export interface Served {
  app: FastifyInstance;
  kms: EmbeddedKms;
  store: ThreadStore;
  threads: Threads;
  /** Status and JSON of one request. */
  ask(method: string, url: string, body?: unknown): Promise<{ status: number; json: Answered }>;
}

export async function embedded(t: ExecutionContext): Promise<EmbeddedKms> {
  const directory = scratch(t);
  const masterKeyFile = `${directory}/master.key`;
  binding.writeKeyFile(masterKeyFile);
  const kms = await createEmbeddedKms({ dataDir: `${directory}/data`, masterKeyFile });
  t.teardown(() => kms.close());
  return kms;
}

/** The provider, with some of its methods replaced. */
export function changed(kms: Provider, methods: Partial<Provider>): Provider {
  return new Proxy(kms, {
    get(target, name) {
      const other = methods[name as keyof Provider];
      if (other !== undefined) return other;
      const own = target[name as keyof Provider] as unknown;
      return typeof own === 'function' ? own.bind(target) : own;
    },
  });
}

export interface Given extends Partial<ThreadsPluginOptions> {
  kms?: (kms: EmbeddedKms) => Provider | undefined;
  fields?: string[];
}

/** An application with the plugin, on threads in memory, whose administrators are all that ask. */
export async function served(t: ExecutionContext, { kms: wrap = (kms) => kms, fields, ...options }: Given = {}): Promise<Served> {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  const provider = wrap(kms);
  const threads = await openThreads({
    store,
    ...(provider !== undefined && { kms: provider }),
    ...(fields !== undefined && { fields }),
  });
  const app = Fastify({ routerOptions: { maxParamLength: 256 } });
  await app.register(threadsPlugin, { threads, authorize: () => true, ...options });
  t.teardown(async () => {
    await app.close();
    await threads.close();
  });
  const ask: Served['ask'] = async (method, url, body) => {
    const payload = body === undefined ? {} : { payload: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
    const answer = await app.inject({ method: method as 'GET', url, ...payload });
    return { status: answer.statusCode, json: answer.json() };
  };
  return { app, kms, store, threads, ask };
}

/** All that a store has, as text. */
export async function storedText(store: ThreadStore): Promise<string> {
  const entries = await store.range({ from: '', to: '\x7f', limit: 100_000 });
  return entries.map(({ key, value }) => `${key} ${Buffer.from(value).toString('utf8')}`).join('\n');
}
