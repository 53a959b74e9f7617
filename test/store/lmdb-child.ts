import { writeSync } from 'node:fs';
import { KmsError } from '../../dist/errors.js';
import type { KeyStore } from '../../dist/store/key-store.js';
import { openLmdbStore } from '../../dist/store/lmdb.js';
import { recordAt, VERSIONS, write } from './lmdb-load.js';

// A process that writes into a store until it is killed, and says what was acknowledged: a line is written before the next
// step, and a pipe on POSIX takes it at once.

const say = (line: string) => writeSync(1, `${line}\n`);

async function load(store: KeyStore, name: string, keys: number): Promise<void> {
  for (let n = 0; n < keys; n += 1) {
    const keyId = `k_${name}n${n}`;
    for (let version = 1; version <= VERSIONS; version += 1) {
      await write(store, keyId, version);
      say(`made ${keyId} ${version}`);
    }
  }
}

/** Goes on when it is refused, and says what for, and whether it can still read. */
async function attempts(store: KeyStore, keys: number): Promise<void> {
  await write(store, 'k_first', 1);
  say('made k_first 1');
  for (let n = 0; n < keys; n += 1) {
    try {
      await write(store, `k_n${n}`, 1);
      say(`made k_n${n} 1`);
    } catch (error) {
      if (!(error instanceof KmsError)) throw error;
      const isRead = store.readRecordSync('k_first')?.version === 1;
      say(`refused ${error.code} ${isRead ? 'read' : 'unread'} ${store.fault()}`);
    }
  }
}

/** Blocking replaces at each point of an asynchronous write, in turn. */
async function blocking(store: KeyStore, times: number): Promise<void> {
  await write(store, 'k_b', 1);
  for (let n = 0; n < times; n += 1) {
    const under = write(store, `k_n${n}`, 1);
    for (let turns = n % 6; turns > 0; turns -= 1) await new Promise<void>((turn) => setImmediate(turn));
    say(`asked ${n}`);
    store.replaceRecordSync(recordAt('k_b', n + 2));
    say(`made k_b ${n + 2}`);
    await under;
  }
}

const [life, path, name, count] = process.argv.slice(2) as [string, string, string, string];
const store = await openLmdbStore({ dataDir: path });
if (life === 'load') await Promise.all(Array.from({ length: 16 }, (_, i) => load(store, `${name}c${i}`, Number(count))));
if (life === 'attempts') await attempts(store, Number(count));
if (life === 'blocking') await blocking(store, Number(count));
await store.close();
