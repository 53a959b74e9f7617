import { resolve } from 'node:path';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { parseEndpoint } from '../../daemon/config/endpoint.js';
import { errorFields, type Log } from '../../daemon/log.js';
import { asKmsError, FAILURES, KmsError } from '../../errors.js';
import { threadsPlugin } from '../../fastify/index.js';
import { answerError, refuse } from '../../fastify/refusals.js';
import { FRAME_TIMEOUT_MS, HTTP_IDLE_TIMEOUT_MS, MAX_CONNECTIONS, MAX_HTTP_HEADER_BYTES, STOP_GRACE_MS } from '../../limits.js';
import type { HeldSocket } from '../../listening.js';
import { binding } from '../../native.js';
import { Failure, failureOf } from '../failure.js';
import { bearerOf } from './admin-token.js';
import { loadFastify } from './fastify.js';
import type { ThreadService } from './service.js';

/** Where to listen: a Unix socket, or a port of loopback, with what may stand in `Host` there. */
export type Place = { path: string } | { host: string; port: number; hosts: ReadonlySet<string> };

/** Throws USAGE. */
export function placeOf(text: string): Place {
  const path = text.replace(/^unix:(\/\/(?=\/))?/, '');
  if (path !== text || !/^[a-z][a-z0-9+.-]*:|:\d+$/i.test(text)) return { path: resolve(path) };
  const found = parseEndpoint(text);
  if ('rule' in found || found.isTls === true) {
    const hint = 'a proxy with TLS, which says who calls, stands before it where others are to reach it';
    throw new Failure('USAGE', '--listen must be host:port of loopback, or the path of a socket', hint);
  }
  const { host, port } = found;
  const names = [host.includes(':') ? `[${host}]` : host, 'localhost'];
  return { host, port, hosts: new Set(names.map((name) => (port === 80 ? name : `${name}:${port}`))) };
}

/** What the server is for: without a token nobody is an administrator. */
export async function threadsServer(
  service: ThreadService,
  place: Place,
  adminToken: string | undefined,
  log: Log,
): Promise<FastifyInstance> {
  const fastify = await loadFastify();
  const app = fastify({
    routerOptions: { maxParamLength: 256 },
    requestTimeout: FRAME_TIMEOUT_MS,
    keepAliveTimeout: HTTP_IDLE_TIMEOUT_MS,
    http: { maxHeaderSize: MAX_HTTP_HEADER_BYTES },
    // A path that cannot be read never comes to a route.
    frameworkErrors: (error, request, reply) => answerError(error, request as never, reply as never),
  });
  app.server.maxConnections = MAX_CONNECTIONS;
  const hosts = 'path' in place ? undefined : place.hosts;
  app.addHook('onRequest', async (request) => refuseBrowser(request, hosts));
  app.addHook('onError', async (request, _reply, error) => {
    const known = asKmsError(error);
    // Fastify's own, of a request that is wrong, are no KmsError and have a status.
    const isOurs = FAILURES.has(known.code) && ((error as { statusCode?: number }).statusCode ?? 500) >= 500;
    if (isOurs)
      log('error', 'request_failed', { ...errorFields(error), method: request.method, route: request.routeOptions.url });
  });
  app.setErrorHandler(answerError);
  app.setNotFoundHandler((_request, reply) => {
    reply.code(404).send({ error: { code: 'UNSUPPORTED', message: 'not supported: no such path' } });
  });
  app.get('/healthz', async (_request, reply) => {
    const health = await service.kms?.health();
    if (health === undefined || health.status !== 'sealed') return reply.type('text/plain').send('ok');
    return refuse(reply, new KmsError('SEALED'));
  });
  const isAdmin = adminToken === undefined ? undefined : bearerOf(adminToken);
  app.register(threadsPlugin, { threads: service.threads, authorize: ({ headers }) => admitted(isAdmin, headers.authorization) });
  return app;
}

function admitted(isAdmin: ((header: string | undefined) => boolean) | undefined, header: string | undefined): boolean {
  if (isAdmin === undefined) throw new KmsError('PERMISSION_DENIED', 'this server has no --admin-token-file');
  if (!isAdmin(header)) throw new KmsError('UNAUTHENTICATED');
  return true;
}

/** A page in somebody's browser reaches loopback too, and by a name of its own choice. */
function refuseBrowser({ headers }: FastifyRequest, hosts: ReadonlySet<string> | undefined): void {
  const isBrowser = Object.keys(headers).some((name) => name === 'origin' || name.startsWith('sec-fetch-'));
  const isForeign = hosts !== undefined && !hosts.has((headers.host ?? '').toLowerCase());
  if (isBrowser) throw new KmsError('PERMISSION_DENIED', 'requests that come through a browser are refused');
  if (isForeign) throw new KmsError('PERMISSION_DENIED', 'the Host is not that of the endpoint');
}

/**
 * A socket is its owner's alone from the beginning; what is left of a process that was killed is replaced, in one step for all
 * who listen so. Throws CONFLICT where somebody listens already, or another file is. Resolves with the socket, whose file is
 * removed by `close`.
 */
export async function listen(app: FastifyInstance, place: Place): Promise<HeldSocket | undefined> {
  if (!('path' in place)) {
    await app.listen({ host: place.host, port: place.port });
    return undefined;
  }
  const held = heldAt(place.path);
  try {
    await app.ready();
    await new Promise<void>((done, fail) => {
      app.server.once('error', fail);
      // Fastify cannot say where a server listens that was given a descriptor, and throws.
      app.server.listen({ fd: held.handOver() }, done);
    });
    return held;
  } catch (error) {
    held.close();
    throw error;
  }
}

function heldAt(path: string): HeldSocket {
  try {
    return binding.holdUnix(path, 0o600);
  } catch (error) {
    const failure = failureOf(error);
    throw failure.code === 'CONFLICT' ? failure.with('--listen names another path') : failure;
  }
}

/** Answers what is under way, for so long; what is not complete then is cut. */
export async function stop(app: FastifyInstance): Promise<void> {
  const cut = setTimeout(() => app.server.closeAllConnections(), STOP_GRACE_MS);
  await app.close();
  clearTimeout(cut);
}
