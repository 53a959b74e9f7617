import { writeSync } from 'node:fs';
import { createToken, revokeToken } from '../../dist/daemon/token-writer.js';
import { killingFileSystem } from './kill-point.js';

/** Makes or revokes a token and kills its own process at a point of it. A line on standard output is an acknowledgement. */

const [operation = '', dataDir = '', point = '', cut = '', tokenId = ''] = process.argv.slice(2);
const fileSystem = killingFileSystem(Number(point), cut, () => true);
if (operation === 'create') {
  const made = await createToken(dataDir, { roles: ['client'], name: 'new' }, fileSystem);
  writeSync(1, `${made.tokenId} ${made.token}\n`);
} else {
  await revokeToken(dataDir, tokenId, fileSystem);
  writeSync(1, `revoked ${tokenId}\n`);
}
process.exit(0);
