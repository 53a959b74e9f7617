// How fast a rotation moves keys in the files store, audit log and all: embedded, with nothing else to do.
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { writeMasterKey } from './processes.js';

const KEYS = { full: 20_000, quick: 2_000 };
const CREATES_AT_ONCE = 64;

async function fill(kms, keys) {
  let left = keys;
  const worker = async () => {
    while (left-- > 0) await kms.createDekForThread(`bench/${left}`);
  };
  await Promise.all(Array.from({ length: CREATES_AT_ONCE }, worker));
}

async function timed(work) {
  const begun = performance.now();
  await work();
  return (performance.now() - begun) / 1000;
}

export async function measureRotation(run) {
  if (!run.product) return undefined;
  const keys = run.quick ? KEYS.quick : KEYS.full;
  const { createEmbeddedKms } = await import(run.product);
  const home = mkdtempSync(join(run.scratch, 'rotation-'));
  const kms = await createEmbeddedKms({ dataDir: join(home, 'data'), masterKeyFile: writeMasterKey(home) });
  try {
    const created = await timed(() => fill(kms, keys));
    run.say(`rotation: ${keys} keys made in ${created.toFixed(1)} s`);
    let status;
    const rotated = await timed(async () => {
      status = await kms.rotateKek({ wait: true });
    });
    if (status.state !== 'idle' || status.done !== keys) throw new Error(`the rotation ended as ${JSON.stringify(status)}`);
    return { keys, createdPerSecond: keys / created, rotatedPerSecond: keys / rotated };
  } finally {
    await kms.close();
  }
}
