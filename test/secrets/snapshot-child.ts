import { once } from 'node:events';
import { writeHeapSnapshot } from 'node:v8';
import { createEmbeddedKms } from '../../dist/create.js';
import { resolveConfig } from '../../dist/daemon/config.js';
import { startDaemon } from '../../dist/daemon/main.js';
import type { Provider } from '../../dist/provider.js';
import { passRawKey } from './raw-key.js';

/**
 * A process that uses the service, embedded or as a daemon, and writes a snapshot of its heap: while the service is open and
 * after it was closed. Planted text (in JSON, its characters' codes) is held by it as well.
 */
interface Job {
  kind: 'embedded' | 'daemon';
  dataDir: string;
  masterKeyFile: string;
  socket: string;
  snapshots: [open: string, closed: string];
  planted: number[][];
  /** A raw data key, its bytes turned over; embedded only. */
  raw: number[];
}

const kept: string[] = [];

async function use(kms: Provider): Promise<void> {
  const { keyId } = await kms.createDekForThread('thread');
  for (let i = 0; i < 500; i++) {
    const { ciphertext } = await kms.encryptWithDek(keyId, Buffer.from(`message ${i}`));
    await kms.decryptWithDek(keyId, ciphertext);
  }
  await kms.encryptWithDek(keyId, Buffer.alloc(600_000));
  await kms.decrypt(await kms.encrypt(Buffer.alloc(10)));
  await kms.encryptMany(keyId, [Buffer.alloc(10), Buffer.alloc(10)]);
  await kms.decryptWithDek(keyId, Buffer.alloc(40)).catch(() => {});
  await kms.encryptWithDek('k_none', Buffer.alloc(40)).catch(() => {});
}

async function embedded({ dataDir, masterKeyFile, snapshots, raw }: Job): Promise<void> {
  const kms = await createEmbeddedKms({ dataDir, masterKeyFile, exposeRawKeys: true });
  await use(kms);
  await passRawKey(kms, raw);
  await kms.seal();
  await kms.unseal();
  await use(kms);
  writeHeapSnapshot(snapshots[0]);
  await kms.close();
}

async function daemon({ dataDir, masterKeyFile, socket, snapshots }: Job): Promise<void> {
  const running = await startDaemon(resolveConfig({ dataDir, masterKeyFile, socket }, {}), () => {});
  console.log('listening');
  await once(process.stdin, 'data');
  writeHeapSnapshot(snapshots[0]);
  await running.stop();
}

const job = JSON.parse(process.argv[2]!) as Job;
for (const codes of job.planted) kept.push(String.fromCharCode(...codes));
await (job.kind === 'embedded' ? embedded(job) : daemon(job));
writeHeapSnapshot(job.snapshots[1]);
console.log('kept', kept.length);
process.exit(0);
