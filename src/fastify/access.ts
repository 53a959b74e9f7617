import type { FastifyRequest } from 'fastify';
import { KmsError } from '../errors.js';

/** What only administrators do. */
export type AdminAction =
  | 'list_threads'
  | 'purge_thread'
  | 'rotate_thread_dek'
  | 'rewrap_deks'
  | 'encrypt_existing'
  | 'read_jobs'
  | 'change_job'
  | 'restore_backup';

export type ThreadAction =
  | 'create_thread'
  | 'read_thread'
  | 'append_message'
  | 'read_messages'
  | 'edit_message'
  | 'delete_message';

/** Whether the request may do that: `true`, and nothing else, lets it. A KmsError that it throws is answered, as UNAUTHENTICATED. */
export type Authorize<Action> = (request: FastifyRequest, action: Action) => boolean | Promise<boolean>;

export async function admit<Action>(
  authorize: Authorize<Action> | undefined,
  request: FastifyRequest,
  action: Action,
): Promise<void> {
  if (authorize !== undefined && (await authorize(request, action)) !== true) throw new KmsError('PERMISSION_DENIED');
}
