import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { asKmsError, ERROR_TABLE, KmsError } from '../../errors.js';
import type { Account } from '../accounts.js';
import type { Identity } from '../identity.js';
import { errorFields } from '../log.js';
import { authorise, perform, type Service } from '../operations.js';
import { OverRate } from '../rates.js';
import { sendError, sendJson, sendText } from './answers.js';
import { parseObject, parseQuery, refuseLongBody, withBody } from './body.js';
import { readMembers } from './members.js';
import { openApi } from './openapi.js';
import { NoRoute, type OpenPath, type Route, type Target, targetOf, WrongMethod } from './routes.js';
import { Share } from './share.js';

const REQUEST_ID = /^[A-Za-z0-9._-]{1,64}$/;
const STRICT_PREFIX = '/v1/';
/** How long a client that is refused may go on sending its body. */
const LINGER_MS = 500;

/** What the surface does for its requests. */
export interface Context {
  service: Service;
  /** Throws UNAUTHENTICATED. */
  identify(request: IncomingMessage): Identity;
  /** Whether somebody whom `identify` named would still be named so. */
  isCurrent(caller: Identity): boolean;
  /** Of the connection: who pays for a request that turns out to be nobody's. */
  account(): Account;
  /** Milliseconds until a refusal for the rate may be sent. */
  refusalDelay(): number;
  /** Throws PERMISSION_DENIED for what came through a browser. */
  refuseBrowser(request: IncomingMessage): void;
}

/** Answers one request. Never rejects. */
export async function answer(context: Context, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const id = requestIdOf(request);
  const share = new Share(context.service.accounts.held);
  // Not before: an answer that its client does not read is held as long as that lasts.
  response.on('close', () => share.give());
  let isLimited = true;
  try {
    context.refuseBrowser(request);
    const [path, query = ''] = splitTarget(request.url ?? '');
    const target = targetOf(request.method ?? '', path);
    isLimited = target.kind !== 'open';
    if (target.kind === 'open') await sendOpen(context.service, target.path, response, id, share);
    else await operate(context, request, response, id, share, target, query);
  } catch (error) {
    // What is refused before anybody had a turn counts as well, and is refused as late.
    if (isLimited && !share.isOwned) await turnOf(context.account(), context.refusalDelay).catch(() => {});
    refuse(context.service, request, response, id, share, error);
  }
}

export function requestIdOf({ headers }: IncomingMessage): string {
  const given = headers['x-request-id'];
  return typeof given === 'string' && REQUEST_ID.test(given) ? given : randomUUID();
}

function splitTarget(url: string): [path: string, query?: string] {
  const mark = url.indexOf('?');
  return mark < 0 ? [url] : [url.slice(0, mark), url.slice(mark + 1)];
}

async function sendOpen(
  { kms, version }: Service,
  path: OpenPath,
  response: ServerResponse,
  id: string,
  share: Share,
): Promise<void> {
  if (path === '/openapi.json') {
    sendJson(response, 200, id, openApi(version), share);
    return;
  }
  const { status, storeFault } = await kms.health();
  if (status === 'sealed') throw new KmsError('SEALED');
  // A store that refuses writes still decrypts: whoever asks whether it lives must not restart it for that.
  if (path === '/readyz' && storeFault !== null) throw new KmsError('STORE_UNAVAILABLE', storeFault);
  sendText(response, 200, id, 'ok');
}

/** The refusals that need no body come before it is read. */
async function operate(
  { service, identify, isCurrent, refusalDelay }: Context,
  request: IncomingMessage,
  response: ServerResponse,
  id: string,
  share: Share,
  { route, keyId }: Extract<Target, { kind: 'operation' }>,
  query: string,
): Promise<void> {
  const caller = identify(request);
  authorise(caller, route.op);
  const account = service.accounts.of(caller);
  share.belongTo(account);
  await turnOf(account, refusalDelay);
  // Nobody would say so later: it was closed before anything listened.
  if (request.socket.destroyed) throw new KmsError('INVALID_ARGUMENT', 'the request was cut off');
  const run = async (members: object) => {
    // The body took its time: who was known when it began may not be any more.
    if (!isCurrent(caller)) throw new KmsError('UNAUTHENTICATED', 'no longer');
    const values = readMembers(route.members, members, route.path.startsWith(STRICT_PREFIX));
    account.bucket.charge(itemsOf(values) - 1, 0, performance.now());
    try {
      const answered = await carryOut(service, caller, route, keyId === undefined ? values : [keyId, ...values]);
      sendJson(response, 200, id, answered, share);
    } finally {
      wipe(values);
    }
  };
  if (route.method === 'GET') {
    await run(parseQuery(query));
    return;
  }
  refuseLongBody(request);
  if (request.headers.expect !== undefined) response.writeContinue();
  await withBody(request, share, account.actor, (body) => run(parseObject(body)));
}

/**
 * Waits for the turn of a request at its identity's rate. Throws OverRate, late: whoever asks again at once must not get through
 * more refusals than the rate would have given it answers.
 */
async function turnOf(account: Account, refusalDelay: () => number): Promise<void> {
  try {
    const wait = account.bucket.take(performance.now());
    if (wait > 0) await delay(wait, undefined, { ref: false });
  } catch (error) {
    if (error instanceof OverRate) {
      account.refused(1);
      await delay(refusalDelay(), undefined, { ref: false });
    }
    throw error;
  }
}

/** How many requests these values come to: a batch is as many as it has items. */
function itemsOf(values: readonly unknown[]): number {
  const batch = values.find(Array.isArray);
  return Math.max(1, batch?.length ?? 1);
}

async function carryOut(service: Service, caller: Identity, route: Route, values: readonly unknown[]): Promise<object> {
  const results = await perform(service, { identity: caller }, route.op, route.args(values));
  try {
    return route.answer(results);
  } finally {
    wipe(results);
  }
}

/** What was decoded for a request, or opened for its answer, is nobody's any more. Strings cannot be wiped: docs/SECURITY.md. */
function wipe(values: readonly unknown[]): void {
  for (const value of values) {
    if (value instanceof Uint8Array) value.fill(0);
    else if (Array.isArray(value)) wipe(value);
  }
}

function refuse(
  service: Service,
  request: IncomingMessage,
  response: ServerResponse,
  id: string,
  share: Share,
  error: unknown,
): void {
  const known = asKmsError(error);
  if (known.code === 'INTERNAL' || known.code === 'STORE_UNAVAILABLE') {
    service.failures.note(() => ({ request_id: id, method: request.method, ...errorFields(known) }));
  }
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  let status: number = ERROR_TABLE[known.code].http;
  if (known instanceof NoRoute) status = 404;
  if (known instanceof WrongMethod) status = 405;
  sendError(response, status, id, known, known instanceof WrongMethod ? known.allowed.join(', ') : undefined);
  if (!request.complete) endAfter(LINGER_MS, request, share);
}

/**
 * What is still coming of a refused body is thrown away for a while: a connection that is closed on unread bytes may take the
 * answer with it.
 */
function endAfter(milliseconds: number, request: IncomingMessage, share: Share): void {
  const timer = setTimeout(() => request.socket.destroy(), milliseconds).unref();
  request.on('end', () => clearTimeout(timer));
  request.on('data', (chunk: Buffer) => share.pace(request, chunk.length));
  request.resume();
}
