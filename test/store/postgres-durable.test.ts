import test from 'ava';
import pg from 'pg';
import { KmsError } from '../../dist/errors.js';
import { openPostgresStore } from '../../dist/store/postgres.js';
import { Database } from '../../dist/store/postgres-database.js';
import { PostgresServer } from '../postgres-server.js';
import { until } from '../shared/fleet.js';

const server = PostgresServer.start();

if (typeof server === 'string') {
  test(`SKIPPED: what a PostgreSQL must promise of a commit: ${server}`, (t) => t.pass());
} else {
  const url = server.url('postgres');
  const open = () => openPostgresStore({ url, daemonId: 'd1', connections: 2 });
  const asked = async (text: string) => {
    const client = new pg.Client({ host: server.directory, user: 'kms', database: 'postgres' });
    await client.connect();
    try {
      return (await client.query(text)).rows[0];
    } finally {
      await client.end();
    }
  };
  const set = async (setting: string, value: 'on' | 'off') => {
    await asked(`alter system set ${setting} = ${value}`);
    await asked('select pg_reload_conf()');
    await until(async () => (await asked(`show ${setting}`))[setting] === value);
  };

  test.after.always(() => server.stop());

  for (const setting of ['fsync', 'full_page_writes']) {
    test.serial(`a server whose ${setting} is off is refused by that name, and taken once it is on`, async (t) => {
      await set(setting, 'off');
      const error = await t.throwsAsync(open(), { instanceOf: KmsError });
      t.is(error?.code, 'STORE_UNAVAILABLE');
      t.regex(error?.message ?? '', new RegExp(`runs with ${setting} = off`));
      await set(setting, 'on');
      await t.notThrowsAsync(open().then((store) => store.close()));
    });
  }

  test.serial('every session waits for its commits to be durable, whatever its role was given', async (t) => {
    await asked('alter role kms set synchronous_commit = off');
    t.is((await asked('show synchronous_commit')).synchronous_commit, 'off');
    const database = await Database.open({ url, schema: 'sessions', connections: 1, statementMs: 10_000 });
    const single = await database.connect(10_000);
    const shown = [await database.query('show synchronous_commit'), await single.query('show synchronous_commit')];
    t.deepEqual(
      shown.map(({ rows }) => rows[0]?.['synchronous_commit']),
      ['on', 'on'],
    );
    await database.close();
    await t.notThrowsAsync(open().then((store) => store.close()));
  });
}
