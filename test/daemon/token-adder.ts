import { setTimeout as delay } from 'node:timers/promises';
import { createToken } from '../../dist/daemon/token-writer.js';

/**
 * Says that it is ready, makes tokens one after the other and says each. Between two of them it waits longer than who waits for the
 * lock before he tries again: on a slow disk one would have it for as long as the other is patient.
 */
const [dataDir = '', name = '', count = ''] = process.argv.slice(2);
console.log('ready');
for (let made = 0; made < Number(count); made += 1) {
  console.log((await createToken(dataDir, { roles: ['client'], name })).token);
  await delay(30);
}
