import { readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { connectKms } from '../../dist/client/index.js';
import type { KmsClient } from '../../dist/client/kms-client.js';
import { ChildDaemon } from './child.js';
import { Flood } from './flood.js';
import { newGround, removeGround } from './ground.js';
import { newSeed, randomFrom } from './random.js';

const FRAMES = 1_000_000;
const MIB = 1024 * 1024;
/** Of what malloc keeps in pieces. A leak of a dozen bytes a frame is found. */
const MARGIN_BYTES = 6 * MIB;
const LEAST_LOOKS = 30;
/** Of a process that hardly has its turn. */
const MOST_LOOKS = 600;
const COLLECTOR = resolve('dist-test/crash/collect-on-signal.js');

const hasProc = process.platform === 'linux';

function residentBytes(pid: number): number {
  process.kill(pid, 'SIGUSR2');
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;
}

function descriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** The lowest of what is seen while the process is left alone: for a while, and where it is to be no more than `most`, until it is. */
async function settled(pid: number, figure: (pid: number) => number, most = Number.POSITIVE_INFINITY): Promise<number> {
  let lowest = Number.POSITIVE_INFINITY;
  for (let looks = 0; looks < LEAST_LOOKS || (looks < MOST_LOOKS && lowest > most); looks += 1) {
    lowest = Math.min(lowest, figure(pid));
    await delay(100);
  }
  return lowest;
}

/** A client that does nothing wrong, until told to stop; resolves to how often it was served. */
async function wellBehaved(t: ExecutionContext, kms: KmsClient, isOver: () => boolean): Promise<number> {
  const { keyId } = await kms.createDekForThread('flood/good');
  let served = 0;
  for (; !isOver(); served += 1) {
    const message = Buffer.alloc(1 + (served % 2_000), served);
    const aad = Buffer.from(`message ${served}`);
    const { ciphertext } = await kms.encryptWithDek(keyId, message, aad, { deadlineMs: 60_000 });
    const opened = await kms.decryptWithDek(keyId, ciphertext, aad, { deadlineMs: 60_000 });
    if (!message.equals(opened)) t.fail('a message came back changed');
    await delay(2);
  }
  return served;
}

test('a million random frames leave the daemon serving, its memory flat and no descriptor open', async (t) => {
  const seed = newSeed();
  t.log(`seed ${seed}`);
  const ground = newGround();
  t.teardown(() => removeGround(ground));
  // A small nursery too: V8 gives the pages of a large one back when it likes.
  const daemon = new ChildDaemon(ground, ['--max-semi-space-size=1', '--expose-gc', '--import', COLLECTOR]);
  t.teardown(() => daemon.kill());
  await daemon.ready;
  const kms = await connectKms(ground.socket);
  t.teardown(() => kms.close());
  const { keyId } = await kms.createDekForThread('flood/aim');
  // The backups of the newest rotation stay open, and so does the directory of databases; frames of the flood make both.
  await kms.rotateKek({ wait: true });
  (await kms.newDatabase()).fill(0);
  const before = hasProc ? await settled(daemon.pid, descriptors) : 0;
  let over = false;
  const good = wellBehaved(t, kms, () => over);
  const flood = new Flood(ground.socket, keyId, randomFrom(seed));
  const half = async (frames: number, most?: number) => {
    await Promise.race([flood.until(frames), good.then(() => over || t.fail('the good client ended'))]);
    return hasProc ? settled(daemon.pid, residentBytes, most) : 0;
  };
  const first = await half(FRAMES / 2);
  const second = await half(FRAMES, first + MARGIN_BYTES);
  over = true;
  const served = await good;
  t.log(JSON.stringify(flood.figures), `${served} round trips of the good client`);
  t.log(`resident: ${(first / MIB).toFixed(1)} MiB after half, ${(second / MIB).toFixed(1)} MiB after all`);
  t.true(flood.figures.frames >= FRAMES);
  t.true(flood.figures.fatal > 100 && flood.figures.broken > 10 && served > 100);
  t.is((await kms.health()).status, 'ok');
  if (hasProc) {
    t.true(second <= first + MARGIN_BYTES, 'its memory is flat');
    t.is(await settled(daemon.pid, descriptors, before), before, 'no descriptor is left open');
  } else t.log('SKIPPED: memory and descriptors are read from /proc');
  await kms.close();
  await daemon.stop();
  t.notRegex(daemon.errors, /connection_failed|INTERNAL/, 'nothing was a defect');
});
