import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { asKmsError, ERROR_TABLE, type ErrorCode, FAILURES, KmsError } from '../../errors.js';
import { LINGER_MS } from '../../limits.js';
import type { Account } from '../accounts.js';
import type { Identity } from '../identity.js';
import { errorFields } from '../log.js';
import { authorise, type Caller, isOfKeys, perform, requireRole, type Service } from '../operations.js';
import { OverRate } from '../rates.js';
import { sendError, sendJson, sendSecret, sendText } from './answers.js';
import { parseObject, parseQuery, refuseLongBody, withBody } from './body.js';
import { takeSecret } from './database-header.js';
import { type FollowedRequest, follow, placeOfTarget } from './followed.js';
import { readMembers } from './members.js';
import { openApi } from './openapi.js';
import { NoRoute, type OpenPath, type Route, type Target, takesBody, targetOf, WrongMethod } from './routes.js';
import { Share } from './share.js';

const STRICT_PREFIX = '/v1/';

/** What the surface does for its requests. */
export interface Context {
  service: Service;
  /** Who it is that connected. */
  actor: string;
  /** A promise only where that takes longer. Throws, or rejects, for who is not known, and BUSY for one connection too many. */
  identify(request: IncomingMessage): Identity | Promise<Identity>;
  /** Whether somebody whom `identify` named would still be named so. */
  isCurrent(caller: Identity): boolean;
  /** Of the connection: who pays for a request that is anybody's, or turns out to be nobody's. */
  account(): Account;
  /** Milliseconds until a refusal for the rate may be sent. */
  refusalDelay(): number;
  /** Throws PERMISSION_DENIED for what came through a browser. */
  refuseBrowser(request: IncomingMessage): void;
}

/** One request with its answer. */
interface Exchange {
  context: Context;
  request: IncomingMessage;
  response: ServerResponse;
  share: Share;
  followed: FollowedRequest;
  /** Of the database that it is in. */
  secret: Uint8Array | undefined;
}

/** Answers one request. Never rejects. */
export async function answer(context: Context, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const followed = follow(request, context.actor);
  // What anybody may ask for is the connection's: nobodies who read no answers must not take the memory of all.
  const share = new Share(context.account());
  const secret = takeSecret(request);
  const exchange = { context, request, response, share, followed, secret };
  const { watch } = context.service;
  let outcome: 'ok' | ErrorCode = 'ok';
  let isLimited = true;
  // Not before: an answer that its client does not read is held as long as that lasts.
  response.on('close', () => share.give());
  watch.begin(followed);
  try {
    context.refuseBrowser(request);
    const [path, query = ''] = splitTarget(request.url ?? '');
    const target = targetOf(request.method ?? '', path);
    followed.place = placeOfTarget(target);
    isLimited = target.kind === 'operation';
    if (target.kind === 'operation') await operate(exchange, target, query);
    else followed.answerBytes = await sendOpen(exchange, target.path);
  } catch (error) {
    const known = asKmsError(error);
    outcome = known.code;
    // What is refused before anybody had a turn counts as well, and is refused as late.
    if (isLimited && !share.isOwned) await turnOf(context.account(), context.refusalDelay)?.catch(() => {});
    refuse(exchange, known);
  } finally {
    secret?.fill(0);
    watch.end(followed, outcome);
  }
}

function splitTarget(url: string): [path: string, query?: string] {
  const mark = url.indexOf('?');
  return mark < 0 ? [url] : [url.slice(0, mark), url.slice(mark + 1)];
}

/** Returns the length of the answer. */
async function sendOpen(exchange: Exchange, path: OpenPath): Promise<number> {
  const { context, response, share, followed } = exchange;
  const { kms, version } = context.service;
  const id = followed.requestId;
  if (path === '/openapi.json') return sendJson(response, 200, id, openApi(version), share);
  if (path === '/metrics') return sendMetrics(exchange);
  const { status, storeFault } = await kms.health();
  if (status === 'sealed') throw new KmsError('SEALED');
  // A store that refuses writes still decrypts: whoever asks whether it lives must not restart it for that.
  if (path === '/readyz' && storeFault !== null) throw new KmsError('STORE_UNAVAILABLE', storeFault);
  return sendText(response, 200, id, 'ok');
}

/** Whom all the others serve, and how well, is nobody's business but an auditor's. */
async function sendMetrics({ context, request, response, share, followed }: Exchange): Promise<number> {
  const caller = await identified(context, request, followed);
  requireRole(caller, 'auditor', 'metrics');
  const metrics = await context.service.metrics();
  const text = await metrics.text();
  share.take(text.length);
  return sendText(response, 200, followed.requestId, text, metrics.contentType);
}

/** A promise only for who takes longer: whoever needs no waiting for does not give way to others either. */
function identified(context: Context, request: IncomingMessage, followed: FollowedRequest): Identity | Promise<Identity> {
  const known = (caller: Identity) => {
    followed.actor = caller.actor;
    return caller;
  };
  const named = context.identify(request);
  return named instanceof Promise ? named.then(known) : known(named);
}

/** The refusals that need no body come before it is read. */
async function operate(
  { context, request, response, share, followed, secret }: Exchange,
  { route, id }: Extract<Target, { kind: 'operation' }>,
  query: string,
): Promise<void> {
  const { service, isCurrent, refusalDelay } = context;
  const named = identified(context, request, followed);
  const caller = named instanceof Promise ? await named : named;
  authorise(caller, route.op);
  const account = service.accounts.of(caller);
  share.belongTo(account);
  const turn = turnOf(account, refusalDelay);
  if (turn !== undefined) await turn;
  // Nobody would say so later: it was closed before anything listened.
  if (request.socket.destroyed) throw new KmsError('INVALID_ARGUMENT', 'the request was cut off');
  const run = async (members: object) => {
    // The body took its time: who was known when it began may not be any more.
    if (!isCurrent(caller)) throw new KmsError('UNAUTHENTICATED', 'no longer');
    const values = readMembers(route.members, members, route.path.startsWith(STRICT_PREFIX));
    account.bucket.charge(itemsOf(values) - 1, 0, performance.now());
    // For no longer than the request needs it: its keys go with the last who has it open.
    const database = secret && isOfKeys(route.op) ? await service.kms.openDatabase(secret, { actor: caller.actor }) : undefined;
    try {
      const answered = await carryOut(
        service,
        { identity: caller, database },
        route,
        id === undefined ? values : [id, ...values],
      );
      followed.answerBytes =
        answered instanceof Uint8Array
          ? sendSecret(response, followed.requestId, answered)
          : sendJson(response, 200, followed.requestId, answered, share);
    } finally {
      database?.leave();
      wipe(values);
    }
  };
  if (!takesBody(route)) {
    await run(parseQuery(query));
    return;
  }
  refuseLongBody(request);
  if (request.headers.expect !== undefined) response.writeContinue();
  await withBody(request, share, account.actor, (body) => {
    followed.bytes = body.length;
    // What the client took to send it is not our time.
    followed.begun = performance.now();
    return run(parseObject(body));
  });
}

/** The turn of a request at its identity's rate; undefined where there is none to wait for. Rejects as `waitForTurn`. */
function turnOf(account: Account, refusalDelay: () => number): Promise<void> | undefined {
  return account.bucket.isLimited ? waitForTurn(account, refusalDelay) : undefined;
}

/** Rejects with OverRate, late: whoever asks again at once must not get through more refusals than its rate has answers. */
async function waitForTurn(account: Account, refusalDelay: () => number): Promise<void> {
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

async function carryOut(service: Service, caller: Caller, route: Route, values: readonly unknown[]): Promise<object> {
  const results = await perform(service, caller, route.op, route.args(values));
  try {
    return route.answer(results, values);
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

function refuse({ context, request, response, share, followed }: Exchange, known: KmsError): void {
  const { requestId: id, actor } = followed;
  if (FAILURES.has(known.code)) {
    context.service.failures.note(() => ({ request_id: id, actor, method: request.method, ...errorFields(known) }));
  }
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  let status: number = ERROR_TABLE[known.code].http;
  if (known instanceof NoRoute) status = 404;
  if (known instanceof WrongMethod) status = 405;
  sendError(response, status, id, known, known instanceof WrongMethod ? known.allowed.join(', ') : undefined);
  if (!request.complete) endLater(request, share);
}

/** What is still coming of a refused body is thrown away for a while. */
function endLater(request: IncomingMessage, share: Share): void {
  const timer = setTimeout(() => request.socket.destroy(), LINGER_MS).unref();
  request.on('end', () => clearTimeout(timer));
  request.on('data', (chunk: Buffer) => share.pace(request, chunk.length));
  request.resume();
}
