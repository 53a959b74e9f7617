import { execFileSync, spawnSync } from 'node:child_process';
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { anyPort } from './free-port.js';

const PLACES = '/usr/lib/postgresql';
const MOST_PORTS = 5;
/** Seconds for a start or a stop: both sync what they write. */
const PATIENCE = { PGCTLTIMEOUT: '180' };

/** Where a PostgreSQL is installed, the newest; undefined where none is. */
function binaries(): string | undefined {
  const versions = existsSync(PLACES) ? readdirSync(PLACES).sort((a, b) => Number(b) - Number(a)) : [];
  const places = [...versions.map((version) => join(PLACES, version, 'bin')), ...(process.env['PATH'] ?? '').split(delimiter)];
  return places.find((place) => existsSync(join(place, 'initdb')) && existsSync(join(place, 'pg_ctl')));
}

interface User {
  uid: number;
  gid: number;
}

/** PostgreSQL does not run as root: there somebody else is found for it. */
function serverUser(): User | undefined {
  const uid = process.getuid?.() ?? 0;
  if (uid !== 0) return { uid, gid: process.getgid?.() ?? 0 };
  for (const name of ['postgres', 'nobody']) {
    const [user, group] = ['-u', '-g'].map((flag) => spawnSync('id', [flag, name], { encoding: 'utf8' }));
    if (user?.status === 0) return { uid: Number(user.stdout), gid: Number(group?.stdout) };
  }
  return undefined;
}

/** Nothing outlives the tests, however they end. */
const running = new Set<PostgresServer>();
process.once('exit', () => {
  for (const server of running) server.stop('immediate');
});

export interface ServerOptions {
  /** Serves 127.0.0.1 with TLS alone, by this certificate, to whoever knows a role's password. */
  tls?: { certificate: string; key: string };
}

/** A PostgreSQL of its own in a temporary directory, reachable by a Unix socket, and over TLS when asked. */
export class PostgresServer {
  readonly directory: string;
  /** Of 127.0.0.1 where it serves TLS; in the name of the socket anyway. */
  port = 5432;
  readonly #bin: string;
  readonly #user: User;
  #options = '';

  private constructor(directory: string, bin: string, user: User) {
    this.directory = directory;
    this.#bin = bin;
    this.#user = user;
  }

  /** The reason why there is none, as text, where none can be had. */
  static start(options: ServerOptions = {}): PostgresServer | string {
    const bin = binaries();
    if (bin === undefined) return 'no PostgreSQL is installed';
    const user = serverUser();
    if (user === undefined) return 'there is no user but root to run PostgreSQL as';
    const directory = mkdtempSync(join(tmpdir(), 'kms-pg-'));
    chownSync(directory, user.uid, user.gid);
    const server = new PostgresServer(directory, bin, user);
    server.#run('initdb', ['-D', server.#data, '-U', 'kms', '--auth=trust', '--no-sync', '-E', 'UTF8', '--locale=C']);
    const common = `-k ${directory} -c max_connections=200`;
    if (options.tls === undefined) {
      server.#options = `${common} -c listen_addresses=`;
      server.begin();
    } else server.#beginOnAnyPort(`${common} ${server.#protected(options.tls)}`);
    running.add(server);
    return server;
  }

  /** On another one where a port is taken. */
  #beginOnAnyPort(options: string): void {
    for (let tries = 1; ; tries += 1) {
      this.port = anyPort();
      this.#options = `${options} -c listen_addresses=127.0.0.1 -c port=${this.port}`;
      try {
        this.begin();
        return;
      } catch (error) {
        if (tries === MOST_PORTS) throw error;
      }
    }
  }

  #protected(tls: { certificate: string; key: string }): string {
    const own = (name: string, text: string) => {
      const path = join(this.directory, name);
      writeFileSync(path, text, { mode: 0o600 });
      chownSync(path, this.#user.uid, this.#user.gid);
      return path;
    };
    const rules = own('hba', 'local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n');
    const [certificate, key] = [own('server.crt', tls.certificate), own('server.key', tls.key)];
    const ssl = `-c ssl=on -c ssl_cert_file=${certificate} -c ssl_key_file=${key}`;
    return `-c hba_file=${rules} ${ssl}`;
  }

  /** Of a database reached by the socket. */
  url(database: string, port = this.port): string {
    return `postgres:///${database}?host=${this.directory}&user=kms&port=${port}`;
  }

  begin(): void {
    this.#run('pg_ctl', ['-D', this.#data, '-l', join(this.directory, 'log'), '-o', this.#options, '-w', 'start']);
  }

  /** Every session ends where it is. `immediate`: as in a crash, with recovery at the next start. */
  end(mode: 'fast' | 'immediate' = 'fast'): void {
    this.#run('pg_ctl', ['-D', this.#data, '-m', mode, '-w', 'stop']);
  }

  stop(mode: 'fast' | 'immediate' = 'fast'): void {
    running.delete(this);
    // It may have been stopped as part of a test that then failed.
    if (existsSync(join(this.#data, 'postmaster.pid'))) this.end(mode);
    rmSync(this.directory, { recursive: true, force: true });
  }

  get #data(): string {
    return join(this.directory, 'data');
  }

  #run(program: string, args: string[]): void {
    const env = { ...process.env, ...PATIENCE };
    execFileSync(join(this.#bin, program), args, { ...this.#user, cwd: this.directory, env, stdio: 'ignore' });
  }
}
