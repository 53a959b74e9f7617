import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, watch } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { openLmdbThreadStore, openThreads } from '../../dist/threads/index.js';
import { jobKey } from '../../dist/threads/jobs/job-book.js';
import type { Stage } from './session.js';
import { ADMIN, ask, post, serving, threadStage } from './threads-ground.js';

const JOB = /job_[0-9a-f]{32}/;
/** Messages that a job of one a second cannot be through with while commands come and go, on a machine that stalls too. */
const SLOW = 100;

test.serial('on the store itself threads are listed, rotated, looked at, taken back and purged', async (t) => {
  const stage = await threadStage(t);
  await serving(t, stage);
  await post(t, stage, 'chat/1');
  await post(t, stage, 'chat/2', 1);
  t.is(await stage.stop(), undefined);

  const listed = await stage.run('progressdb-kms threads list');
  t.regex(listed.stdout, /^chat\/1 {2}k_[0-9a-f]{32} {2}\S+Z\nchat\/2 {2}k_[0-9a-f]{32} {2}\S+Z\n$/);
  const [, before = ''] = /chat\/1 {2}(\S+)/.exec(listed.stdout) ?? [];

  const dry = await stage.run('progressdb-kms threads rotate --all --dry-run');
  t.is(dry.stdout, 'chat/1  3 of 3 messages to move, all can be read\nchat/2  1 of 1 messages to move, all can be read\n');
  t.is((await stage.run('progressdb-kms threads jobs')).stdout, '');

  const rotated = await stage.run('progressdb-kms threads rotate chat/1 --concurrency 2 --messages-per-second 1000');
  t.is(rotated.exit, 0, rotated.stderr);
  const [, job = '', key = ''] = /^chat\/1 {2}(job_\S+) {2}done {2}3 moved {2}(k_\S+)\n$/.exec(rotated.stdout) ?? [];
  t.not(key, before);
  t.true((await stage.run('progressdb-kms threads list')).stdout.includes(key));
  t.regex((await stage.run('progressdb-kms threads jobs')).stdout, /^job_\S+ {2}done {2}rotate {2}3 of 3 {2}\S+ {2}chat\/1\n$/);
  const shown = await stage.run(`progressdb-kms threads jobs ${job}`);
  t.regex(shown.stdout, /^state: +done$/m);
  t.regex(shown.stdout, new RegExp(`^new_key_id: +${key}$`, 'm'));

  const restored = await stage.run(`progressdb-kms threads restore-backup ${job}`);
  t.is(restored.stdout, '3 put back; 0 were changed since, and stay as they are\n');
  const again = await stage.run(`progressdb-kms threads restore-backup ${job}`);
  t.is(again.exit, 25);

  const meant = await stage.run('progressdb-kms threads purge chat/2');
  t.is(meant.exit, 2);
  t.regex(meant.stderr, /purging chat\/2 destroys .*\nhint: add --yes/);
  t.is((await stage.run('progressdb-kms threads purge chat/2 --yes')).exit, 0);
  t.deepEqual(
    JSON.parse((await stage.run('progressdb-kms threads list --json')).stdout).threads.map(
      ({ thread_id: id }: { thread_id: string }) => id,
    ),
    ['chat/1'],
  );
  t.false(readFileSync(join(stage.work, 'chats', 'threads.mdb'), 'latin1').includes('chat/2'));
  await serving(t, stage);
  t.is((await ask(stage, 'GET', '/threads/chat%2F1/messages')).json.messages[2].body, 'secret text 2');
  t.is(await stage.stop(), undefined);
});

test.serial('while a server has the store, commands go through it if they are told where it is, and say so if not', async (t) => {
  const stage = await threadStage(t);
  await serving(t, stage);
  await post(t, stage, 'a');
  await post(t, stage, 'b');
  const alone = await stage.run('progressdb-kms threads list');
  t.is(alone.exit, 23);
  t.is(
    alone.stderr,
    `progressdb-kms: another process has the thread store ${stage.work}/chats open\n` +
      'hint: --endpoint and --admin-token-file go through the `progressdb-kms threads serve` that has it\n',
  );
  t.is((await stage.run('progressdb-kms threads list --endpoint ./threads.sock')).exit, 12);
  const through = '--endpoint ./threads.sock --admin-token-file admin.token';
  const named = await stage.run(`progressdb-kms threads list --store chats --verbose ${through}`);
  t.is(named.exit, 0);
  t.is(named.stderr, `progressdb-kms: through the server at ${stage.work}/threads.sock\n`);
  t.is(named.stdout.split('\n').length, 3);

  const rotated = await stage.run(`progressdb-kms threads rotate --all --keep-backups 0 --json ${through}`);
  t.is(rotated.exit, 0, rotated.stderr);
  const { jobs, failures } = JSON.parse(rotated.stdout);
  t.deepEqual(jobs.map(({ thread_id: id, state }: { [name: string]: string }) => [id, state]).sort(), [
    ['a', 'done'],
    ['b', 'done'],
  ]);
  t.deepEqual(failures, []);
  t.is(jobs[0].options.keep_backups_ms, 0);

  const begun = await stage.run(`progressdb-kms threads rotate a nope --no-wait ${through}`);
  t.is(begun.exit, 25);
  t.regex(begun.stdout, /^a {2}job_\S+ {2}(running|done) /);
  t.is(begun.stderr, 'progressdb-kms: nope: not found: thread nope\n');
  const [job = ''] = JOB.exec(begun.stdout) ?? [];
  t.is((await stage.run(`progressdb-kms threads jobs ${job} ${through}`)).exit, 0);
  const fields = await stage.run(`progressdb-kms threads encrypt-existing --all --fields body.card ${through}`);
  t.is(fields.exit, 2, 'the server has fields of its own');
  t.regex(fields.stderr, /--fields is for a store/);
  t.is((await stage.run(`progressdb-kms threads purge b --yes ${through}`)).exit, 0);
  t.is((await ask(stage, 'GET', '/threads/b')).status, 404);
  t.is(await stage.stop(), undefined);
  const gone = await stage.run(`progressdb-kms threads list ${through}`);
  t.is(gone.exit, 21);
  t.regex(gone.stderr, /no server answers at .*threads\.sock: no such file or directory/);
});

test.serial('a job is paused, resumed and cancelled where the server runs it, and resumed by a command afterwards', async (t) => {
  const stage = await threadStage(t);
  await serving(t, stage);
  await post(t, stage, 'a', SLOW);
  const slow = { thread_id: 'a', messages_per_second: 1, concurrency: 1 };
  const { job_id: job } = (await ask(stage, 'POST', '/admin/rotate_thread_dek', slow, ADMIN)).json;
  stage.env['PROGRESSDB_THREADS_ENDPOINT'] = join(stage.work, 'threads.sock');
  stage.env['PROGRESSDB_THREADS_ADMIN_TOKEN_FILE'] = 'admin.token';
  t.regex(
    (await stage.run(`progressdb-kms threads pause ${job}`)).stdout,
    new RegExp(`^job_\\S+ is paused, with \\d+ of ${SLOW} messages moved\n$`),
  );
  const twice = await stage.run(`progressdb-kms threads pause ${job}`);
  t.is(twice.exit, 23);
  t.regex(twice.stderr, /conflicting state: the job is paused/);
  t.regex((await stage.run(`progressdb-kms threads resume ${job} --no-wait`)).stdout, /running/);
  // A server that ends leaves the job to whoever opens the store next.
  t.is(await stage.stop(), undefined);
  for (const name of ['PROGRESSDB_THREADS_ENDPOINT', 'PROGRESSDB_THREADS_ADMIN_TOKEN_FILE']) delete stage.env[name];
  t.regex((await stage.run(`progressdb-kms threads jobs ${job}`)).stdout, /^state: +running$/m);
  t.is((await stage.run(`progressdb-kms threads pause ${job}`)).exit, 0);
  t.is((await stage.run(`progressdb-kms threads resume ${job} --no-wait`)).exit, 2);
  t.is((await stage.run(`progressdb-kms threads cancel ${job}`)).exit, 0);
  const cancelled = await stage.run(`progressdb-kms threads resume ${job}`);
  t.is(cancelled.exit, 23);
  const finished = await stage.run('progressdb-kms threads rotate a');
  t.is(finished.exit, 0, finished.stderr);
  t.regex(finished.stdout, / done {2}\d+ moved /);
});

test.serial('a job that was left running is said to be run by nobody, and `resume` ends it', async (t) => {
  const stage = await threadStage(t);
  await serving(t, stage);
  await post(t, stage, 'a', SLOW);
  const slow = { thread_id: 'a', messages_per_second: 1, concurrency: 1 };
  const { job_id: job } = (await ask(stage, 'POST', '/admin/rotate_thread_dek', slow, ADMIN)).json;
  t.is(await stage.stop(), undefined);
  const left = await stage.run(`progressdb-kms threads jobs ${job}`);
  t.regex(left.stdout, /^state: +running$/m);
  t.is(left.stderr, `progressdb-kms: no process runs it; \`progressdb-kms threads resume ${job}\` goes on with it\n`);
  await hasten(stage, job);
  const resumed = await stage.run(`progressdb-kms threads resume ${job}`);
  t.is(resumed.exit, 0, resumed.stderr);
  t.regex(resumed.stdout, new RegExp(`^a {2}job_\\S+ {2}done {2}${SLOW} moved `));
});

test.serial('a message that cannot be read holds its rotation up, and is named', async (t) => {
  const stage = await threadStage(t);
  await serving(t, stage);
  await post(t, stage, 'a');
  await post(t, stage, 'b');
  t.is(await stage.stop(), undefined);
  const store = await openLmdbThreadStore(join(stage.work, 'chats'));
  const [entry] = await store.range({ from: 'thread:a:msg:', to: 'thread:a:msg;', limit: 1 });
  const text = Buffer.from(entry!.value)
    .toString('utf8')
    .replace(/"v":"..../, '"v":"AAAA');
  await store.commit([{ expect: [], put: [{ key: entry!.key, value: Buffer.from(text) }], remove: [] }]);
  await store.close();
  const dry = await stage.run('progressdb-kms threads rotate b a --dry-run');
  t.is(dry.exit, 23);
  t.is(dry.stdout, 'b  3 of 3 messages to move, all can be read\na  2 of 3 messages to move, 1 cannot be read\n');
  const held = await stage.run('progressdb-kms threads rotate a b');
  t.is(held.exit, 23);
  t.regex(held.stdout, /^a {2}job_\S+ {2}blocked {2}2 moved {2}k_\S+\nb {2}job_\S+ {2}done {5}3 moved /);
  t.regex(held.stderr, /message msg-\S+ holds job_\S+ up: decryption failed\n.*threads resume job_\S+` goes on with it\n$/);
  t.is(/message (msg-\S+)/.exec(held.stderr)?.[1], entry!.key.replace('thread:a:msg:', 'msg-'));
});

test.serial('a thread in plaintext is encrypted, in fields if that is asked, and nothing is left to do', async (t) => {
  const stage = await threadStage(t);
  stage.env['PROGRESSDB_USE_ENCRYPTION'] = 'false';
  await serving(t, stage);
  await post(t, stage, 'a');
  t.is(await stage.stop(), undefined);
  delete stage.env['PROGRESSDB_USE_ENCRYPTION'];
  const bytes = () => readFileSync(join(stage.work, 'chats', 'threads.mdb'), 'latin1');
  t.true(bytes().includes('secret text'));
  t.is((await stage.run('progressdb-kms threads rotate a')).exit, 23, 'it has no key to rotate');
  const done = await stage.run('progressdb-kms threads encrypt-existing --all');
  t.is(done.exit, 0, done.stderr);
  t.regex(done.stdout, /^a {2}job_\S+ {2}done {2}3 moved {2}k_/);
  t.false(bytes().includes('secret text'));
  const again = await stage.run('progressdb-kms threads encrypt-existing --all');
  t.like(again, { exit: 0, stdout: '', stderr: 'progressdb-kms: no thread has anything to move\n' });
  t.is(
    (await stage.run('progressdb-kms threads encrypt-existing a --dry-run')).stdout,
    'a  0 of 3 messages to move, all can be read\n',
  );
});

test.serial('keys of threads are rewrapped after a KEK rotation', async (t) => {
  const stage = await threadStage(t);
  await serving(t, stage);
  await post(t, stage, 'a', 1);
  await post(t, stage, 'b', 1);
  t.is(await stage.stop(), undefined);
  const version = () => [...readFileSync(join(stage.work, 'chats', 'threads.mdb'), 'latin1').matchAll(/"kek_version":"(\d+)"/g)];
  t.true(version().length > 0 && version().every(([, one]) => one === '1'));
  t.is((await stage.run('progressdb-kms rotate-kek')).exit, 0);
  const done = await stage.run('progressdb-kms threads rewrap-deks --all --parallel 2');
  t.is(done.stdout, 'the keys of 2 threads are under the active KEK\n', done.stderr);
  t.true(version().some(([, one]) => one === '2'));
  const some = await stage.run('progressdb-kms threads rewrap-deks a nope');
  t.is(some.exit, 25);
  t.is(some.stdout, 'the keys of 1 thread are under the active KEK\n');
  t.regex(some.stderr, /nope: not found: thread nope/);
  const store = await openLmdbThreadStore(join(stage.work, 'chats'));
  const plain = await openThreads({ store });
  await plain.createThread({ threadId: 'plain' });
  await plain.close();
  await store.close();
  const counted = await stage.run('progressdb-kms threads rewrap-deks a nope plain --json');
  t.like(JSON.parse(counted.stdout), { rewrapped: 1, skipped: 1, failed: 1, failures: [{ thread_id: 'nope' }] });
  t.regex((await stage.run('progressdb-kms threads rewrap-deks plain')).stderr, /1 thread has no key\n/);
});

test.serial('commands make no store, and refuse what is not clear', async (t) => {
  const stage = await threadStage(t);
  const missing = await stage.run('progressdb-kms threads list');
  t.is(missing.exit, 21);
  t.regex(missing.stderr, /chats holds no thread store/);
  t.false(existsSync(join(stage.work, 'chats')));
  for (const [command, reason] of [
    ['rotate', /name threads, or give --all/],
    ['rotate a --all', /name threads, or give --all/],
    ['rewrap-deks', /name threads, or give --all/],
    ['rotate a --parallel 17', /from 1 to 16/],
    ['list --endpoint http://example.org --admin-token-file admin.token', /in the clear/],
    ['list --endpoint kms://127.0.0.1:1', /--endpoint must be/],
  ] as const) {
    const { exit, stderr } = await stage.run(`progressdb-kms threads ${command}`);
    t.is(exit, 2, command);
    t.regex(stderr, reason);
  }
});

test.serial('a key store that a daemon holds is worked with through it', async (t) => {
  const stage = await threadStage(t);
  await serving(t, stage);
  await post(t, stage, 'a');
  t.is(await stage.stop(), undefined);
  t.is(await stage.start('progressdb-kms serve'), undefined);
  const held = await stage.run('progressdb-kms threads rotate a');
  t.is(held.exit, 23);
  t.regex(held.stderr, /hint: PROGRESSDB_KMS_MODE=external goes through the daemon that has it/);
  const done = await stage.run('PROGRESSDB_KMS_MODE=external progressdb-kms threads rotate a');
  t.is(done.exit, 0, done.stderr);
  t.regex(done.stdout, /done {2}3 moved/);
});

test.serial('jobs are listed page by page, and the last line says how to go on', async (t) => {
  const stage = await threadStage(t);
  await serving(t, stage);
  await post(t, stage, 'a', 1);
  t.is(await stage.stop(), undefined);
  const made: string[] = [];
  for (let i = 0; i < 3; i += 1) {
    const { stdout } = await stage.run('progressdb-kms threads rotate a');
    made.push((JOB.exec(stdout) as RegExpExecArray)[0]);
  }
  const first = await stage.run('progressdb-kms threads jobs --limit 2');
  t.deepEqual(first.stdout.match(/^job_\S+/gm) as string[], made.slice(0, 2));
  t.is(first.stderr, `progressdb-kms: there are more: --cursor ${made[1]} goes on\n`);
  const second = await stage.run(`progressdb-kms threads jobs --limit 2 --json --cursor ${made[1]}`);
  const { jobs, next } = JSON.parse(second.stdout);
  t.deepEqual([jobs.map(({ job_id: id }: { job_id: string }) => id), next], [made.slice(2), null]);
  const newest = JSON.parse((await stage.run('progressdb-kms threads jobs --reverse --limit 1 --json')).stdout);
  t.deepEqual([newest.jobs[0].job_id, newest.next], [made[2], made[2]]);
});

test.serial(
  'all threads are encrypted with the store written anew once, and the plaintext is gone when the command is',
  async (t) => {
    const stage = await threadStage(t);
    stage.env['PROGRESSDB_USE_ENCRYPTION'] = 'false';
    await serving(t, stage);
    for (let i = 0; i < 6; i += 1) await post(t, stage, `t${i}`, 1);
    t.is(await stage.stop(), undefined);
    delete stage.env['PROGRESSDB_USE_ENCRYPTION'];
    const chats = join(stage.work, 'chats');
    const scratches = new Set<string>();
    const watcher = watch(chats, (_, name) => {
      if (/^\.threads\.mdb\.[0-9a-f]{16}\.tmp$/.test(name ?? '')) scratches.add(name as string);
    });
    const done = await stage.run('progressdb-kms threads encrypt-existing --all --parallel 2');
    await new Promise((resolve) => setTimeout(resolve, 100));
    watcher.close();
    t.is(done.exit, 0, done.stderr);
    t.is(done.stdout.match(/ done /g)?.length, 6);
    t.is(scratches.size, 1);
    t.false(readFileSync(join(chats, 'threads.mdb'), 'latin1').includes('secret text'));
  },
);

for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  test.serial(`a rotation that ${signal} interrupts says where it stands and how to go on`, async (t) => {
    const stage = await threadStage(t);
    await serving(t, stage);
    await post(t, stage, 'a', SLOW);
    await post(t, stage, 'b', 1);
    const rate = '--messages-per-second 1 --concurrency 1 --parallel 1';
    const through = await interrupted(
      stage,
      `threads rotate a ${rate} --endpoint ./threads.sock --admin-token-file admin.token`,
      signal,
    );
    t.is(through.code, code);
    const [job] = JOB.exec(through.stdout) as RegExpExecArray;
    t.is(
      through.stderr,
      `progressdb-kms: ${job} goes on in the server; \`progressdb-kms threads resume ${job}\` waits for it, ` +
        `\`threads pause ${job}\` stops it\n`,
    );
    t.is((await ask(stage, 'GET', `/admin/jobs/${job}`, undefined, ADMIN)).json.state, 'running');
    t.is((await ask(stage, 'POST', `/admin/jobs/${job}/cancel`, undefined, ADMIN)).status, 200);
    t.is(await stage.stop(), undefined);

    const alone = await interrupted(stage, `threads rotate a b ${rate}`, signal);
    t.is(alone.code, code);
    const [own] = JOB.exec(alone.stdout) as RegExpExecArray;
    t.regex(alone.stdout, /^a {2}job_\S+ {2}running /);
    t.is(
      alone.stderr,
      `progressdb-kms: ${own} stops here; \`progressdb-kms threads resume ${own}\` goes on with it\n` +
        'progressdb-kms: 1 thread was not begun with\n',
    );
    await hasten(stage, own);
    const resumed = await stage.run(`progressdb-kms threads resume ${own}`);
    t.is(resumed.exit, 0, resumed.stderr);
    t.regex(resumed.stdout, new RegExp(`^a {2}${own} {2}done `));
  });
}

/** Lets a job that nobody runs go as fast as it can: what was slow so that it could be met under way need not be so to its end. */
async function hasten(stage: Stage, job: string): Promise<void> {
  const store = await openLmdbThreadStore(join(stage.work, 'chats'));
  const key = jobKey(job);
  const [bytes] = await store.get([key]);
  const text = Buffer.from(bytes!).toString();
  const value = Buffer.from(text.replace('"messagesPerSecond":1,', '"messagesPerSecond":0,'));
  await store.commit([{ expect: [], put: [{ key, value }], remove: [] }]);
  await store.close();
}

/** A command that is sent a signal once its job is durable. */
async function interrupted(stage: Stage, command: string, signal: NodeJS.Signals) {
  const chats = join(stage.work, 'chats', 'threads.mdb');
  const jobs = () =>
    new Set(
      readFileSync(chats, 'latin1').match(
        /job_[0-9a-f]{32}","kind":"rotate","threadId":"a","state":"running","phase":"(move|verify)/g,
      ),
    );
  const before = jobs();
  const options = { cwd: stage.work, env: stage.env, stdio: ['ignore', 'pipe', 'pipe'] as const };
  const child = spawn(`${stage.dir}/bin/progressdb-kms`, command.split(' '), { ...options, stdio: [...options.stdio] });
  const said = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      said[name] += text;
    });
  }
  const ended = once(child, 'close');
  while (child.exitCode === null && [...jobs()].every((job) => before.has(job)))
    await new Promise((wake) => setTimeout(wake, 20));
  await new Promise((wake) => setTimeout(wake, 300));
  child.kill(signal);
  const [code] = await ended;
  return { code: code as number | null, ...said };
}
