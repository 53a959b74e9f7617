import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import type { KmsError } from '../../dist/errors.js';
import { ChildDaemon } from '../crash/child.js';
import { connectedTo } from '../crash/ground.js';
import { newSeed, randomFrom } from '../crash/random.js';
import { PostgresServer } from '../postgres-server.js';
import { SOON_STALE_MS, until } from './fleet.js';
import { TwoDaemons } from './two-daemons.js';

const server = PostgresServer.start();
const KEYS = 20;
const text = Buffer.from('a message');

async function code(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'ok',
    (error) => (error as KmsError).code,
  );
}

if (typeof server === 'string') {
  test(`SKIPPED: two daemons on one PostgreSQL: ${server}`, (t) => t.pass());
} else {
  let count = 0;
  const two = (t: ExecutionContext) => {
    count += 1;
    const seed = newSeed();
    t.log(`seed ${seed}`);
    const made = new TwoDaemons(server, `two_${count}`, randomFrom(seed));
    t.teardown(() => made.end());
    return made;
  };

  test.after.always(() => server.stop());

  test.serial(
    'of two daemons under load one is killed, and the other finishes the rotation and keeps every promise',
    async (t) => {
      const daemons = two(t);
      await daemons.begin(KEYS);
      for (let round = 0; round < 2; round += 1) await daemons.kill();
      t.log(JSON.stringify(daemons.figures));
      t.true(daemons.figures.rotations > 0 && daemons.figures.answered > 0);
    },
  );

  test.serial('the database is killed under two daemons, which lose nothing and go on when it is back', async (t) => {
    const daemons = two(t);
    await daemons.begin(KEYS);
    await daemons.restart();
    t.log(JSON.stringify(daemons.figures));
    t.is(daemons.figures.restarts, 1);
  });

  test.serial('a daemon that was stopped while another one disabled a key does not use it when it goes on', async (t) => {
    const daemons = two(t);
    const [a, b] = ['a', 'b'].map((name) => new ChildDaemon(daemons.ground(name), [], [], daemons.flags(SOON_STALE_MS)));
    await Promise.all([a!.ready, b!.ready]);
    const [toA, toB] = await Promise.all(['a', 'b'].map((name) => connectedTo(daemons.ground(name))));
    const { keyId } = await toA!.createDek();
    const { ciphertext } = await toB!.encryptWithDek(keyId, text);
    b!.process.kill('SIGSTOP');
    await toA!.disableKey(keyId);
    // Longer than its signs of life last; what it is asked meanwhile lies in its socket, before any news.
    await delay(SOON_STALE_MS + 200);
    const asked = Array.from({ length: 50 }, () => code(toB!.decryptWithDek(keyId, ciphertext)));
    b!.process.kill('SIGCONT');
    const answers = new Set(await Promise.all(asked));
    t.false(answers.has('ok'), [...answers].join());
    await until(async () => (await code(toB!.decryptWithDek(keyId, ciphertext))) === 'KEY_DISABLED');
    for (const kms of [toA!, toB!]) await kms.close();
    for (const daemon of [a!, b!]) await daemon.stop();
  });
}
