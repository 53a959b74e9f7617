import { once } from 'node:events';
import { type ErrorCode, KmsError } from '../errors.js';

/** What a worker says: how far it is, what came of a question, or why nothing did. */
export type Said<Answer = unknown> = { done: number } | { answer: Answer } | { error: { code: ErrorCode; message: string } };

/** Says how much of a question's work is done. */
export type Tell = (done: number) => void;

/** The worker's half: answers one question after another, until its parent has gone or lets it go. */
export async function answerQuestions<Question>(answer: (question: Question, tell: Tell) => Promise<object>): Promise<void> {
  const say = (said: Said) => process.send?.(said);
  // Whoever measures ends this, and not who stops the whole with the keys of a terminal.
  process.on('SIGINT', () => {});
  process.on('message', async (question: Question) => {
    try {
      say({ answer: await answer(question, (done) => say({ done })) });
    } catch (error) {
      say({ error: toldOf(error) });
    }
  });
  const gone = once(process, 'disconnect');
  say({ answer: {} });
  await gone;
  // What it has under way is nobody's any more.
  process.exit();
}

/** An unknown error with its message, which says more than that it is unknown. */
function toldOf(error: unknown): { code: ErrorCode; message: string } {
  const told = ({ code, message }: KmsError) => ({ code, message });
  if (error instanceof KmsError && (error.code !== 'INTERNAL' || error.cause === undefined)) return told(error);
  const cause = error instanceof KmsError ? error.cause : error;
  return told(new KmsError('INTERNAL', cause instanceof Error ? cause.message : String(cause)));
}
