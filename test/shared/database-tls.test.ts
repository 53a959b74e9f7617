import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import pg from 'pg';
import { createEmbeddedKms } from '../../dist/create.js';
import { KmsError } from '../../dist/errors.js';
import { binding } from '../../dist/native.js';
import { Authority } from '../daemon/authority.js';
import { PostgresServer } from '../postgres-server.js';

const authority = await Authority.create('Database');
const certified = await authority.issue({ cn: 'db', names: [{ type: 'dns', value: 'localhost' }], usage: 'server' });
const server = PostgresServer.start({ tls: { certificate: certified.cert, key: certified.key } });

if (typeof server === 'string') {
  test(`SKIPPED: TLS to the database: ${server}`, (t) => t.pass());
} else {
  const { port } = server;
  const directory = mkdtempSync(join(tmpdir(), 'kms-db-tls-'));
  const file = (name: string, text: string) => {
    writeFileSync(join(directory, name), text, { mode: 0o600 });
    return join(directory, name);
  };
  const masterKeyFile = join(directory, 'master.key');
  binding.writeKeyFile(masterKeyFile);
  const caFile = file('ca.pem', authority.pem);
  let count = 0;

  const open = async (host: string, password: string, authorities: string | undefined, mode = '') => {
    count += 1;
    const url = `postgres://app:${password}@${host}:${port}/postgres${mode}`;
    const ca = authorities === undefined ? {} : { caFile: authorities };
    const store = { kind: 'postgres', urlFile: file(`url-${count}`, `${url}\n`), ...ca } as const;
    return createEmbeddedKms({ dataDir: join(directory, `data-${count}`), masterKeyFile, store });
  };

  test.before(async () => {
    const client = new pg.Client({ host: server.directory, port, user: 'kms', database: 'postgres' });
    await client.connect();
    await client.query("create role app login superuser password 'hush-hush'");
    await client.end();
  });

  test.after.always(() => {
    server.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  test.serial('a database is reached over TLS once it has proved its name', async (t) => {
    const kms = await open('localhost', 'hush-hush', caFile);
    const { keyId } = await kms.createDek();
    t.is((await kms.describeKey(keyId)).keyId, keyId);
    const client = new pg.Client({ host: server.directory, port, user: 'kms', database: 'postgres' });
    await client.connect();
    const { rows } = await client.query(
      "select bool_and(ssl) as all, count(*)::int as count from pg_stat_ssl join pg_stat_activity using (pid) where usename = 'app'",
    );
    t.true(rows[0].all && rows[0].count >= 2, JSON.stringify(rows));
    await client.end();
    await kms.close();
  });

  const refused: Array<[name: string, host: string, password: string, authorities: () => string | undefined, mode?: string]> = [
    ['whose certificate is for another host', '127.0.0.1', 'hush-hush', () => caFile],
    ['whose authority is not ours', 'localhost', 'hush-hush', () => undefined, '?sslmode=verify-full'],
    ['that takes no password of ours', 'localhost', 'wrong-word', () => caFile],
    ['that wants TLS where we do not', '127.0.0.1', 'hush-hush', () => undefined],
  ];
  for (const [name, host, password, authorities, mode] of refused) {
    test.serial(`a database ${name} is refused, and no error holds the password`, async (t) => {
      const error = await t.throwsAsync(open(host, password, authorities(), mode), { instanceOf: KmsError });
      t.is(error?.code, 'STORE_UNAVAILABLE');
      t.notRegex(`${error?.message} ${error?.stack} ${String(error?.cause)}`, /hush-hush|wrong-word/);
    });
  }

  test.serial('a file with the URL that others can read is refused with what mends it', async (t) => {
    const url = file('wide', 'postgres://app:x@localhost/postgres');
    (await import('node:fs')).chmodSync(url, 0o644);
    const store = { kind: 'postgres', urlFile: url } as const;
    const error = await t.throwsAsync(createEmbeddedKms({ dataDir: join(directory, 'wide-data'), masterKeyFile, store }), {
      instanceOf: KmsError,
    });
    t.is(error?.code, 'PERMISSION_DENIED');
    t.regex(error?.message ?? '', /chmod o-rwx/);
  });
}
