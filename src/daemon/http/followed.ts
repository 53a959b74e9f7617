import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { OPERATION_NAMES, OTHER } from '../counters.js';
import type { Followed } from '../watch.js';
import type { OpenPath, Target } from './routes.js';

const REQUEST_ID = /^[A-Za-z0-9._-]{1,64}$/;

const OPEN_PLACES: Record<OpenPath, (typeof OPERATION_NAMES)[number]> = {
  '/healthz': 'health',
  '/health': 'health',
  '/readyz': 'ready',
  '/metrics': 'metrics',
  '/openapi.json': 'openapi',
};

/** A request of HTTP as it is followed. */
export interface FollowedRequest extends Followed {
  readonly requestId: string;
}

export function follow({ headers }: IncomingMessage, actor: string): FollowedRequest {
  const { 'x-request-id': given, traceparent } = headers;
  return {
    surface: 'http',
    requestId: typeof given === 'string' && REQUEST_ID.test(given) ? given : randomUUID(),
    traceparent: typeof traceparent === 'string' ? traceparent : undefined,
    place: OTHER,
    actor,
    bytes: 0,
    begun: performance.now(),
  };
}

/** Where a request to that target is counted. */
export function placeOfTarget(target: Target): number {
  return target.kind === 'open' ? OPERATION_NAMES.indexOf(OPEN_PLACES[target.path]) : target.route.op;
}
