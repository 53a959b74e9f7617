// One process of the gate: each embedded operation, warm, in blocks between which the event loop turns. Their instructions are
// dumped if it is told of the collector, and what they allocate is printed otherwise. The forms that give a promise are not
// among them: it depends on when the compiler comes to them what it spares them.
// Arguments: scratch directory, collector addon or ''.
import { mkdtempSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { createEmbeddedKms } from '../dist/index.js';
import { allocatedPerOperation, usedHeap } from './heap.js';
import { writeMasterKey } from './processes.js';

const BYTES = 1024;
const AAD_BYTES = 32;
const OVERHEAD = 28;
const BLOCKS = 3;
const OPERATIONS = 1000;
/** After so many everything is compiled that will be. */
const WARM_UP_BLOCKS = 15;

const [scratch, collector] = process.argv.slice(2);
const dir = mkdtempSync(join(scratch, 'counted-'));
const kms = await createEmbeddedKms({ dataDir: join(dir, 'data'), masterKeyFile: writeMasterKey(dir) });
const { keyId } = await kms.createDekForThread('counted');
const key = await kms.key(keyId);
const plaintext = Buffer.alloc(BYTES, 0x5a);
const aad = Buffer.alloc(AAD_BYTES, 0x61);
const ciphertext = kms.encryptSync(keyId, plaintext, aad);
const out = Buffer.alloc(BYTES + OVERHEAD);

/** A loop for each: in one for all, the call would be megamorphic. */
const operations = {
  encryptInto: (n) => {
    for (let i = 0; i < n; i++) key.encryptInto(plaintext, aad, out, 0);
  },
  decryptInto: (n) => {
    for (let i = 0; i < n; i++) key.decryptInto(ciphertext, aad, out, 0);
  },
  encryptSync: (n) => {
    for (let i = 0; i < n; i++) kms.encryptSync(keyId, plaintext, aad);
  },
  decryptSync: (n) => {
    for (let i = 0; i < n; i++) kms.decryptSync(keyId, ciphertext, aad);
  },
};

async function warm(run) {
  for (let i = 0; i < WARM_UP_BLOCKS; i++) {
    run(OPERATIONS);
    await turn();
  }
}

async function dumpInstructions({ start, dump }) {
  for (const [name, run] of Object.entries(operations)) {
    await warm(run);
    for (let i = 0; i < BLOCKS; i++) {
      start();
      run(OPERATIONS);
      dump(`${OPERATIONS} x ${name}`);
      await turn();
    }
  }
}

async function printAllocations() {
  const measured = {};
  for (const [name, run] of Object.entries(operations)) {
    await warm(run);
    measured[name] = await allocatedPerOperation({
      collect: globalThis.gc,
      read: usedHeap,
      run,
      blocks: BLOCKS,
      operations: OPERATIONS,
    });
  }
  process.stdout.write(JSON.stringify(measured));
}

if (collector) await dumpInstructions(createRequire(import.meta.url)(collector));
else await printAllocations();
await kms.close();
