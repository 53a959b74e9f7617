import { createToken } from '../../dist/daemon/token-writer.js';

/** Says that it is ready, makes tokens one after the other and says each. */
const [dataDir = '', name = '', count = ''] = process.argv.slice(2);
console.log('ready');
for (let made = 0; made < Number(count); made += 1) {
  console.log((await createToken(dataDir, { roles: ['client'], name })).token);
}
