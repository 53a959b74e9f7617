import { cpSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import anyTest, { type TestFn } from 'ava';
import { KmsError } from '../../dist/errors.js';
import { PostgresServer } from '../postgres-server.js';
import { Fleet, until } from './fleet.js';

const test = anyTest as TestFn;
const server = PostgresServer.start();
/** Nothing but its name does a daemon hold that leads no rotation. */
const HELD = "where locktype = 'advisory' and granted and objid::bigint = hashtext($1)::bigint & 4294967295";
const text = Buffer.from('a message');

async function refusal(work: () => unknown): Promise<KmsError | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    if (error instanceof KmsError) return error;
    throw error;
  }
}

/** The way to a database, which can break without the database being told. */
class BreakingWay {
  readonly #held: Socket[] = [];
  readonly #open = new Set<Socket>();
  readonly #server: Server;

  constructor(path: string) {
    this.#server = createServer((near) => {
      const far = connect(path);
      this.#held.push(far);
      this.#open.add(near);
      near.on('error', () => {}).on('close', () => this.#open.delete(near));
      far.on('error', () => {}).on('close', () => near.destroy());
      near.on('data', (bytes) => far.write(bytes));
      far.on('data', (bytes) => near.write(bytes));
    });
  }

  async begin(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return (this.#server.address() as AddressInfo).port;
  }

  break(): void {
    for (const near of this.#open) near.destroy();
  }

  end(): void {
    this.#server.close();
    for (const far of this.#held) far.destroy();
  }
}

if (typeof server === 'string') {
  test(`SKIPPED: two daemons of one name on one PostgreSQL: ${server}`, (t) => t.pass());
} else {
  const fleets: Fleet[] = [];
  const fleet = () => {
    const made = new Fleet(server, `copied_${fleets.length}`);
    fleets.push(made);
    return made;
  };
  const copied = (all: Fleet, from: string, to: string) =>
    cpSync(join(all.directory, from), join(all.directory, to), { recursive: true });
  const endSessions = (all: Fleet) => all.asked(`select pg_terminate_backend(pid) from pg_locks ${HELD}`, [all.schema]);

  test.after.always(async () => {
    for (const each of fleets) await each.end();
    server.stop();
  });

  test.serial('a daemon on a copy of the data directory of one that runs is refused, and that one goes on', async (t) => {
    const all = fleet();
    const a = await all.open('a');
    const { keyId } = await a.createDek();
    copied(all, 'a', 'copy');
    const before = await all.asked('select * from audit_keys');
    const error = await refusal(() => all.open('copy'));
    t.is(error?.code, 'CONFLICT');
    t.regex(error?.message ?? '', /daemon-id file of this data directory.*new, empty data directory/);
    t.deepEqual(await all.asked('select * from audit_keys'), before, 'it touched nothing of the other one');
    t.is(await refusal(() => a.encryptWithDek(keyId, text)), undefined);
    await a.close();
    t.is(await refusal(() => all.open('a')), undefined, 'who stops leaves its name at once');
  });

  test.serial('of two that have one name one serves, after whatever loss of connections', async (t) => {
    const all = fleet();
    const a = await all.open('a');
    const { keyId } = await a.createDek();
    copied(all, 'a', 'copy');
    // Its own connection is lost for as long as it takes the copy to start.
    let copy: Awaited<ReturnType<Fleet['open']>> | undefined;
    const ending = (async () => {
      for (; copy === undefined; await new Promise((resolve) => setTimeout(resolve, 5))) await endSessions(all);
    })();
    while (copy === undefined) {
      await refusal(async () => {
        copy = await all.open('copy');
      });
    }
    await ending;
    const states = async () =>
      Promise.all([a, copy!].map(async (kms) => (await refusal(() => kms.encryptWithDek(keyId, text)))?.code));
    await until(async () => {
      const [one, other] = await states();
      return (one === undefined) !== (other === undefined);
    });
    const faults = async () => Promise.all([a, copy!].map(async (kms) => (await kms.health()).storeFault));
    await until(async () => (await faults()).filter((fault) => /daemon-id file/.test(fault ?? '')).length === 1);
    t.true((await faults()).includes(null));
  });

  test.serial('a daemon whose connection broke unnoticed by the database takes its name back', async (t) => {
    const all = fleet();
    const way = new BreakingWay(join(server.directory, '.s.PGSQL.5432'));
    const port = await way.begin();
    const url = `postgres://kms@127.0.0.1:${port}/postgres?sslmode=disable`;
    const a = await all.open('a', { store: { kind: 'postgres', url, schema: all.schema, connections: 4 } });
    const { keyId } = await a.createDek();
    const holder = async () => (await all.asked(`select pid from pg_locks ${HELD}`, [all.schema]))[0]?.['pid'];
    const before = await holder();
    t.is(typeof before, 'number');
    way.break();
    await until(async () => ![before, undefined].includes(await holder()));
    await until(async () => (await refusal(() => a.encryptWithDek(keyId, text))) === undefined);
    await until(async () => (await a.health()).storeFault === null);
    await a.close();
    way.end();
  });
}
