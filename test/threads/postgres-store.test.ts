import test from 'ava';
import pg from 'pg';
import { createEmbeddedKms } from '../../dist/index.js';
import { openThreads } from '../../dist/threads/threads.js';
import { textOf } from '../house/sources.js';
import { PostgresServer } from '../postgres-server.js';
import { openPostgresThreadStore } from './postgres-thread-store.js';
import { threadStoreContract } from './store-contract.js';

test('docs/THREADS.md shows the store that is tested here', (t) => {
  const shown = textOf('test/threads/postgres-thread-store.ts')
    .replace("'../../dist/errors.js'", "'progressdb-kms/errors'")
    .replace("'../../dist/threads/thread-store.js'", "'progressdb-kms/threads'");
  t.true(textOf('docs/THREADS.md').includes(shown));
});

const server = PostgresServer.start();

if (typeof server === 'string') {
  test(`SKIPPED: the store in PostgreSQL: ${server}`, (t) => t.pass());
} else {
  const pools: pg.Pool[] = [];
  let count = 0;

  const database = async (): Promise<pg.Pool> => {
    const admin = new pg.Pool({ host: server.directory, user: 'kms', database: 'postgres', max: 1 });
    count += 1;
    const name = `threads_${count}`;
    await admin.query(`create database ${name}`);
    await admin.end();
    const pool = new pg.Pool({ host: server.directory, user: 'kms', database: name, max: 8 });
    // A connection that ends while it is idle is no test's concern.
    pool.on('error', () => {});
    pools.push(pool);
    return pool;
  };

  test.after.always(async () => {
    for (const pool of pools) await pool.end();
    server.stop();
  });

  threadStoreContract(test, async () => openPostgresThreadStore(await database()));

  test('two services on one database make one key for a thread, and each reads what the other wrote', async (t) => {
    const kms = await createEmbeddedKms({ memory: true });
    const pool = await database();
    const open = async () => openThreads({ kms, store: await openPostgresThreadStore(pool) });
    const services = await Promise.all([open(), open()]);
    const made = await Promise.all(services.flatMap((threads) => [threads.ensureThread('t'), threads.ensureThread('t')]));
    t.is(new Set(made.map(({ keyId }) => keyId)).size, 1);
    const active = (await kms.listKeys({ threadId: 't' })).keys.filter(({ state }) => state === 'active');
    t.is(active.length, 1);
    await Promise.all(services.flatMap((threads, i) => [1, 2, 3].map((n) => threads.append('t', { body: `${i}-${n}` }))));
    for (const threads of services) {
      const { messages } = await threads.list('t');
      t.deepEqual(messages.map(({ body }) => body).sort(), ['0-1', '0-2', '0-3', '1-1', '1-2', '1-3']);
    }
    const { jobId } = await services[0]!.rotateThreadDek('t');
    t.is((await services[1]!.waitForJob(jobId)).state, 'done');
    t.true((await services[1]!.list('t')).messages.every(({ error }) => error === null));
    for (const threads of services) await threads.close();
    await kms.close();
  });
}
