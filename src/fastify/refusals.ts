import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { asKmsError, ERROR_TABLE, errorTold, FAILURES, KmsError } from '../errors.js';

const RETRY_AFTER_S = 1;

/** Whatever was thrown, Fastify's own errors too, as one of ours. */
function refusalOf(error: FastifyError | KmsError): KmsError {
  if (error instanceof KmsError) return error;
  const { statusCode = 500, message } = error;
  if (statusCode === 413) return new KmsError('TOO_LARGE', 'the body');
  return statusCode >= 400 && statusCode < 500 ? new KmsError('INVALID_ARGUMENT', message, { cause: error }) : asKmsError(error);
}

/** Answers an error in the form of all others. What failed inside is for the log of the application: bodies are in neither. */
export function answerError(thrown: FastifyError | KmsError, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const error = refusalOf(thrown);
  if (FAILURES.has(error.code)) request.log.error({ err: error, cause: error.cause }, 'request failed');
  return refuse(reply, error);
}

export function refuse(reply: FastifyReply, error: KmsError, more: object = {}): FastifyReply {
  if (error.code === 'BUSY') reply.header('retry-after', RETRY_AFTER_S);
  if (error.code === 'UNAUTHENTICATED') reply.header('www-authenticate', 'Bearer');
  return reply.code(ERROR_TABLE[error.code].http).send({ error: errorTold(error), ...more });
}
