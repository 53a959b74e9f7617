import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import test from 'ava';
import { PostgresServer } from '../postgres-server.js';

const server = PostgresServer.start();

interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

if (typeof server === 'string') {
  test(`SKIPPED: commands on a store in PostgreSQL: ${server}`, (t) => t.pass());
} else {
  const directory = mkdtempSync(join(tmpdir(), 'kms-commands-'));
  const urlFile = join(directory, 'database-url');
  writeFileSync(urlFile, `${server.url('postgres')}\n`, { mode: 0o600 });
  const key = join(directory, 'master.key');
  const named = { PROGRESSDB_KMS_STORE: 'postgres', PROGRESSDB_KMS_POSTGRES_URL_FILE: urlFile };

  /** On a machine of its own, as far as the data directory makes one. */
  const run = (name: string, args: string[], env: NodeJS.ProcessEnv = named): Promise<Ended> =>
    new Promise((done) => {
      const place = { PROGRESSDB_KMS_DATA_DIR: join(directory, name), PROGRESSDB_KMS_SOCKET: join(directory, `${name}.sock`) };
      const all = { PATH: process.env['PATH'], PROGRESSDB_KMS_MASTER_KEY_FILE: key, ...place, ...env };
      execFile(process.execPath, [resolve('dist/cli/main.js'), ...args], { env: all }, (error, stdout, stderr) => {
        done({ code: error === null ? 0 : Number(error.code), stdout, stderr });
      });
    });

  test.after.always(() => {
    server.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  test.serial('init makes the store in the database, and a configuration that `serve` takes', async (t) => {
    const before = await run('a', ['unlock-check']);
    t.is(before.code, 21, before.stderr);
    const config = join(directory, 'kms.yaml');
    const made = await run('a', ['init', '--store', 'postgres', '--config', config]);
    t.is(made.code, 0, made.stderr);
    t.regex(readFileSync(config, 'utf8'), /store: postgres\npostgres:\n {2}url_file: /);
    const checked = await run('a', ['serve', '--config', config, '--check-config'], {});
    t.is(checked.code, 0, checked.stderr);
    t.false(existsSync(join(directory, 'a', 'keyring.json')), 'it is in the database');
    t.true(existsSync(join(directory, 'a', 'daemon-id')));
  });

  test.serial('commands of two machines work on one store, with no daemon', async (t) => {
    const made = await run('a', ['create-dek', '--thread', 'thread-1']);
    t.is(made.code, 0, made.stderr);
    const listed = await run('b', ['keys', 'list', '--json']);
    t.is(listed.code, 0, listed.stderr);
    t.is(JSON.parse(listed.stdout).keys[0].key_id, made.stdout.trim());
    const rotated = await run('b', ['rotate-kek']);
    t.is(rotated.code, 0, rotated.stderr);
    t.is(JSON.parse((await run('a', ['rotation-status', '--json'])).stdout).kek_version, '2');
    const unlocked = await run('c', ['unlock-check', '--json']);
    t.is(JSON.parse(unlocked.stdout).state, 'active');
    t.false(existsSync(join(directory, 'c')), 'nothing is made by it');
  });

  test.serial('what the configuration shows holds no password', async (t) => {
    const env = { PROGRESSDB_KMS_STORE: 'postgres', PROGRESSDB_KMS_POSTGRES_URL: 'postgres://kms:hush-hush@db/keys' };
    const shown = await run('a', ['config', 'show'], env);
    t.regex(shown.stdout, /postgres\.url +\(set\)/);
    t.notRegex(shown.stdout + shown.stderr, /hush/);
  });

  test.serial('a data directory that holds another store is left alone', async (t) => {
    t.is((await run('files', ['init'], {})).code, 0);
    const refused = await run('files', ['keys', 'list']);
    t.is(refused.code, 23, refused.stderr);
    t.regex(refused.stderr, /holds a store of kind files; a store in PostgreSQL has another data directory/);
  });
}
