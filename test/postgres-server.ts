import { execFileSync, spawnSync } from 'node:child_process';
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

const PLACES = '/usr/lib/postgresql';

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

/** A PostgreSQL of its own in a temporary directory, reachable by a Unix socket only. */
export class PostgresServer {
  readonly directory: string;
  readonly #bin: string;
  readonly #user: User;

  private constructor(directory: string, bin: string, user: User) {
    this.directory = directory;
    this.#bin = bin;
    this.#user = user;
  }

  /** The reason why there is none, as text, where none can be had. */
  static start(): PostgresServer | string {
    const bin = binaries();
    if (bin === undefined) return 'no PostgreSQL is installed';
    const user = serverUser();
    if (user === undefined) return 'there is no user but root to run PostgreSQL as';
    const directory = mkdtempSync(join(tmpdir(), 'kms-pg-'));
    chownSync(directory, user.uid, user.gid);
    const server = new PostgresServer(directory, bin, user);
    server.#run('initdb', ['-D', server.#data, '-U', 'kms', '--auth=trust', '--no-sync', '-E', 'UTF8', '--locale=C']);
    const options = `-k ${directory} -c listen_addresses= -c fsync=off`;
    server.#run('pg_ctl', ['-D', server.#data, '-l', join(directory, 'log'), '-o', options, '-w', 'start']);
    return server;
  }

  stop(): void {
    this.#run('pg_ctl', ['-D', this.#data, '-m', 'fast', '-w', 'stop']);
    rmSync(this.directory, { recursive: true, force: true });
  }

  get #data(): string {
    return join(this.directory, 'data');
  }

  #run(program: string, args: string[]): void {
    execFileSync(join(this.#bin, program), args, { ...this.#user, cwd: this.directory, stdio: 'ignore' });
  }
}
