import { ERROR_TABLE, type ErrorCode } from '../../errors.js';
import { Failure } from '../failure.js';

/** What an answer says is wrong. It may be of anybody who listens there. */
export function refusalIn(text: string, status: number): Failure {
  try {
    const { error, job_id: jobId } = JSON.parse(text) as { error: { code: ErrorCode; message: string }; job_id?: string };
    if (Object.hasOwn(ERROR_TABLE, error.code) && typeof error.message === 'string') {
      const hint = typeof jobId === 'string' ? `\`progressdb-kms threads jobs ${jobId}\` shows the job` : undefined;
      return new Failure(error.code, error.message, hint);
    }
  } catch {
    // It is none of ours.
  }
  return new Failure('STORE_UNAVAILABLE', `the endpoint answers ${status}, and not as \`threads serve\` does`);
}
