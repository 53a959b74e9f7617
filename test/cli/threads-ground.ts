import { writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { Stage } from './session.js';

/** Whatever JSON is read as. */
type Answered = ReturnType<typeof JSON.parse>;

export interface Reply {
  status: number;
  text: string;
  json: Answered;
}

export const TOKEN = 'a-token-of-tests-only-0123';

/** A stage with a key store, and a thread store that `threads serve` makes. */
export async function threadStage(t: ExecutionContext): Promise<Stage> {
  const stage = await Stage.make();
  t.teardown(() => stage.clear());
  Object.assign(stage.env, {
    PROGRESSDB_KMS_DATA_DIR: 'data',
    PROGRESSDB_KMS_MASTER_KEY_FILE: 'master.key',
    PROGRESSDB_THREADS_STORE: 'chats',
  });
  const made = await stage.run('progressdb-kms init');
  t.is(made.exit, 0, made.stderr);
  writeFileSync(join(stage.work, 'admin.token'), `${TOKEN}\n`, { mode: 0o600 });
  return stage;
}

export async function serving(t: ExecutionContext, stage: Stage, options = '--admin-token-file admin.token'): Promise<void> {
  t.is(await stage.start(`progressdb-kms threads serve --listen threads.sock ${options}`), undefined);
}

/** One request to the server of a stage. */
export function ask(stage: Stage, method: string, path: string, body?: unknown, headers: object = {}): Promise<Reply> {
  return askAt({ socketPath: join(stage.work, 'threads.sock') }, method, path, body, headers);
}

export function askAt(place: object, method: string, path: string, body?: unknown, headers: object = {}): Promise<Reply> {
  const type = body === undefined ? {} : { 'content-type': 'application/json' };
  return new Promise((done, fail) => {
    const sent = request({ ...place, method, path, headers: { ...type, ...headers } }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part) => {
        text += part;
      });
      response.on('end', () => {
        const isJson = response.headers['content-type']?.startsWith('application/json') === true;
        done({ status: response.statusCode ?? 0, text, json: isJson ? JSON.parse(text) : undefined });
      });
    });
    sent.on('error', fail);
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

export const ADMIN = { authorization: `Bearer ${TOKEN}` };

/** Makes a thread with so many messages, through the server. */
export async function post(t: ExecutionContext, stage: Stage, threadId: string, count = 3): Promise<void> {
  t.is((await ask(stage, 'POST', '/threads', { thread_id: threadId })).status, 201);
  const path = `/threads/${encodeURIComponent(threadId)}/messages`;
  for (let i = 0; i < count; i += 1) {
    t.is((await ask(stage, 'POST', path, { body: `secret text ${i}` })).status, 201);
  }
}
