import { chmodSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { connectKms, KmsError, type RemoteKms } from '../../dist/client/index.js';
import { resolveConfig } from '../../dist/daemon/config.js';
import { jsonLog } from '../../dist/daemon/log.js';
import { startDaemon } from '../../dist/daemon/main.js';

/** What a process of another user does, told in JSON; it says what came of it in JSON lines. */
export type Job =
  /** Connects, writes `hex` (nothing if it is empty), and waits for an answer or the end. */
  | { verb: 'knock'; socket: string; hex: string }
  /** Connects as a client and tries every kind of operation; `keyId` belongs to somebody else. */
  | { verb: 'use'; socket: string; serverUids?: number[]; keyId: string }
  /** Serves, and opens its socket to all users of the machine. */
  | { verb: 'serve'; socket: string; dataDir: string; masterKeyFile: string; allowedUids: string }
  /** Listens where a daemon could, hangs up at the first word, and tells how many bytes every visitor said. */
  | { verb: 'squat'; socket: string };

function say(word: unknown): void {
  console.log(JSON.stringify(word));
}

function knock(socket: string, hex: string): void {
  const connection = connect(socket);
  let received = 0;
  connection.on('error', () => {});
  connection.on('data', (bytes) => {
    received += bytes.length;
    connection.destroy();
  });
  connection.on('close', () => say({ received }));
  if (hex !== '') connection.write(Buffer.from(hex, 'hex'));
}

async function outcome(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'OK';
  } catch (error) {
    return error instanceof KmsError ? error.code : String(error);
  }
}

async function use(socket: string, serverUids: number[], keyId: string): Promise<void> {
  let kms: RemoteKms;
  try {
    kms = await connectKms({ socket, serverUids });
  } catch (error) {
    say({ connect: error instanceof KmsError ? error.code : String(error) });
    return;
  }
  say({
    connect: 'OK',
    encrypt: await outcome(kms.encryptWithDek(keyId, Buffer.from('x'))),
    encryptLarge: await outcome(kms.encryptWithDek(keyId, Buffer.alloc(400_000))),
    encryptMany: await outcome(kms.encryptMany(keyId, [Buffer.from('x')])),
    encryptDefault: await outcome(kms.encrypt(Buffer.from('x'))),
    create: await outcome(kms.createDek()),
    getWrapped: await outcome(kms.getWrapped(keyId)),
    status: await outcome(kms.status()),
    describe: await outcome(kms.describeKey(keyId)),
    list: await outcome(kms.listKeys()),
    disable: await outcome(kms.disableKey(keyId)),
    enable: await outcome(kms.enableKey(keyId)),
    seal: await outcome(kms.seal()),
    unseal: await outcome(kms.unseal()),
  });
  await kms.close();
}

async function serve({ socket, dataDir, masterKeyFile, allowedUids }: Job & { verb: 'serve' }): Promise<void> {
  try {
    await startDaemon(resolveConfig({ socket, dataDir, masterKeyFile, allowedUids }, {}), jsonLog());
    chmodSync(socket, 0o666);
    say({ serving: true });
  } catch (error) {
    say({ refused: error instanceof KmsError ? `${error.code}: ${error.message}` : String(error) });
  }
}

function squat(socket: string): void {
  const server = createServer((visitor) => {
    let received = 0;
    visitor.on('error', () => {});
    visitor.on('data', (bytes) => {
      received += bytes.length;
      visitor.end();
    });
    visitor.on('close', () => say({ received }));
  });
  server.listen(socket, () => {
    chmodSync(socket, 0o666);
    say({ serving: true });
  });
}

const job = JSON.parse(process.argv[2]!) as Job;
if (job.verb === 'knock') knock(job.socket, job.hex);
else if (job.verb === 'use') await use(job.socket, job.serverUids ?? [], job.keyId);
else if (job.verb === 'serve') await serve(job);
else squat(job.socket);
