import { readFileSync } from 'node:fs';
import { createEmbeddedKms } from '../../dist/create.js';

/** A process that imports raw data keys (hex, in JSON on stdin) into a store and prints their ids. */
const { dataDir, masterKeyFile, keys } = JSON.parse(readFileSync(0, 'utf8')) as {
  dataDir: string;
  masterKeyFile: string;
  keys: string[];
};
const kms = await createEmbeddedKms({ dataDir, masterKeyFile, exposeRawKeys: true });
const ids: string[] = [];
for (const key of keys) ids.push((await kms.wrapDek(Buffer.from(key, 'hex'))).keyId);
await kms.close();
console.log(JSON.stringify(ids));
