import { randomBytes, randomInt } from 'node:crypto';
import { writeSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import type { EmbeddedKms } from '../../dist/create.js';
import { embeddedOn } from './ground.js';

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

const [life, dataDir = '', keyFile = '', ...args] = process.argv.slice(2);
const kms = await embeddedOn({ directory: '', dataDir, keyFile, socket: '' });
say('ready');
if (life === 'creates') await creates(kms);
if (life === 'uses') await uses(kms, args);
