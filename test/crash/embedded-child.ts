import { randomBytes, randomInt } from 'node:crypto';
import { writeSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import type { EmbeddedKms } from '../../dist/create.js';
import { nodeFileSystem } from '../../dist/store/file-system.js';
import { withoutBarrier } from './barriers.js';
import { embeddedThrough } from './faulty-provider.js';
import { embeddedOn } from './ground.js';
import { Load } from './load.js';
import { ToldLedger } from './told-ledger.js';
import { Witness } from './witness.js';

/** What a process does until it is killed. It tells what it has by blocking writes: a line that went out is an acknowledgement. */

const MAKERS = 16;
const MOST_AT_ONCE = 4_000;

function say(...words: Array<string | number>): void {
  writeSync(1, `${words.join(' ')}\n`);
}

/** `created <key id>`, then `sealed <key id> <message> <ciphertext>`. */
async function creates(kms: EmbeddedKms): Promise<never> {
  const maker = async (): Promise<never> => {
    for (;;) {
      const { keyId } = await kms.createDekForThread('crash/embedded');
      say('created', keyId);
      const message = randomBytes(24);
      const { ciphertext } = await kms.encryptWithDek(keyId, message, Buffer.from(keyId));
      say('sealed', keyId, message.toString('hex'), Buffer.from(ciphertext).toString('hex'));
    }
  };
  return Promise.race(Array.from({ length: MAKERS }, maker));
}

/** `used <key id> <n>` after each loop of n synchronous encryptions. */
async function uses(kms: EmbeddedKms, keyIds: string[]): Promise<never> {
  const message = randomBytes(16);
  const out = Buffer.alloc(64);
  for (;;) {
    const keyId = keyIds[randomInt(keyIds.length)] as string;
    const count = randomInt(1, MOST_AT_ONCE);
    for (let done = 0; done < count; done += 1) kms.encryptInto(keyId, message, undefined, out);
    say('used', keyId, count);
    // Sometimes the reservations that the loop asked for get their turn, sometimes the next loop runs out and writes by itself.
    if (randomInt(2) === 0) await turn();
  }
}

/** Works under load and tells its ledger, rotations beneath it. */
async function load(kms: EmbeddedKms): Promise<never> {
  const life = new Load(new ToldLedger(), Math.random);
  life.onRotation = () => say('rotating');
  await life.run([kms], MAKERS);
  throw new Error('a load that nobody stops ended');
}

/** As `load`, creates only, on a disk that only says that it syncs. */
async function careless(kms: EmbeddedKms): Promise<never> {
  const witness = new Witness(kms, new ToldLedger());
  for (;;) await witness.seal(await witness.create());
}

const [life, dataDir = '', keyFile = '', ...args] = process.argv.slice(2);
const ground = { directory: '', dataDir, keyFile, socket: '' };
const lost = withoutBarrier(() => true)(nodeFileSystem);
const kms = await (life === 'careless' ? embeddedThrough(lost, ground) : embeddedOn(ground));
say('ready');
if (life === 'load') await load(kms);
if (life === 'careless') await careless(kms);
if (life === 'creates') await creates(kms);
if (life === 'uses') await uses(kms, args);
