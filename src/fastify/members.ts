import type { FastifySchemaCompiler } from 'fastify';
import { z } from 'zod';
import { KmsError } from '../errors.js';
import { THREAD_ID_PATTERN } from '../limits.js';

/** Threads named in one request, each of which begins a job. */
export const MAX_JOBS_AT_ONCE = 64;
const MAX_THREAD_IDS = 1_000;

const threadId = z.string().regex(THREAD_ID_PATTERN, 'is no thread id');
const whole = z.int().min(0);
const body = z.custom((value) => value !== undefined, 'is required');
const cursor = z.string().max(512).optional();
/** In a query everything is text. */
const limit = z
  .string()
  .regex(/^[1-9]\d{0,3}$/, 'must be 1 to 1000')
  .transform(Number)
  .optional();
const flag = z
  .enum(['true', 'false'])
  .transform((text) => text === 'true')
  .optional();

const jobOptions = {
  dry_run: z.boolean().optional(),
  messages_per_second: whole.optional(),
  concurrency: whole.optional(),
  keep_backups_ms: whole.optional(),
};

function oneOf<Members extends { thread_ids?: unknown; all?: unknown }>(members: z.ZodType<Members>) {
  const isOne = ({ thread_ids, all }: Members) => (thread_ids === undefined) === (all === true);
  return members.refine(isOne, 'either thread_ids, or all: true');
}

export const NewThreadBody = z.strictObject({ thread_id: threadId.optional(), title: z.string().optional() });
export const NewMessageBody = z.strictObject({ body, author: z.string().optional() });
export const EditBody = z.strictObject({ body });
export const MessageQuery = z.strictObject({ limit, cursor, reverse: flag });
export const JobQuery = MessageQuery;
export const ThreadQuery = z.strictObject({ limit, cursor });
export const RotateBody = z.strictObject({ thread_id: threadId, ...jobOptions });
export const RewrapBody = oneOf(
  z.strictObject({
    thread_ids: z.array(threadId).min(1).max(MAX_THREAD_IDS).optional(),
    all: z.boolean().optional(),
    parallelism: whole.optional(),
  }),
);
export const EncryptBody = oneOf(
  z.strictObject({
    thread_ids: z.array(threadId).min(1).max(MAX_JOBS_AT_ONCE).optional(),
    all: z.boolean().optional(),
    cursor,
    ...jobOptions,
    defer_compaction: z.boolean().optional(),
  }),
);
export const NoBody = z.union([z.undefined(), z.null(), z.strictObject({})]);

/** Takes nothing that is not named, and turns nothing into what it should have been: Fastify's own validation does both. */
export const compileMembers: FastifySchemaCompiler<z.ZodType> = ({ schema }) => {
  return (data) => {
    const read = schema.safeParse(data);
    if (read.success) return { value: read.data };
    const [issue] = read.error.issues;
    const name = issue?.path.join('.') ?? '';
    const text = (issue?.message ?? '').replace(/^Invalid input: /, '').replace(/^[A-Z]/, (letter) => letter.toLowerCase());
    return { error: new KmsError('INVALID_ARGUMENT', name === '' ? text : `${name}: ${text}`) };
  };
};
