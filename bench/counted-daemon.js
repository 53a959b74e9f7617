// What the daemon allocates on the heap of JavaScript for a chunk of frames, however many there are in it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connectKms } from '../dist/client/index.js';
import { FRAME_HEADER_BYTES, OP } from '../dist/wire/frames.js';
import { hotFrameBytes, writeHotFrame } from '../dist/wire/hot.js';
import { allocatedPerOperation, EXACT_HEAP } from './heap.js';
import { stop, writeMasterKey } from './processes.js';
import { BENCH, ROOT } from './programs.js';

const PLAINTEXT_BYTES = 64;
const AAD_BYTES = 32;
const OVERHEAD = 28;
const CHUNKS = [1, 64];
const WARM_UP = 10_000;
/** Short enough that in some of them no timer of the daemon comes: the audit log's is the most frequent, every 100 ms. */
const TURNS = 100;
const BLOCKS = 60;

async function start(home, socket) {
  const flags = ['--socket', socket, '--data-dir', join(home, 'data'), '--master-key-file', writeMasterKey(home)];
  const probe = ['--import', join(BENCH, 'heap-probe.js'), join(ROOT, 'dist/cli/main.js')];
  const child = spawn(process.execPath, [...EXACT_HEAP, ...probe, 'serve', '--workers', '1', '--log-level', 'error', ...flags], {
    stdio: ['ignore', 'ignore', 2, 'ipc'],
  });
  while (!existsSync(socket)) {
    if (child.exitCode !== null) throw new Error(`the daemon exited with ${child.exitCode} before it listened`);
    await sleep(50);
  }
  return child;
}

async function newKey(socket) {
  const kms = await connectKms(socket);
  try {
    return (await kms.createDekForThread('counted')).keyId;
  } finally {
    await kms.close();
  }
}

function chunkOf(frames, keyId) {
  const data = Buffer.alloc(PLAINTEXT_BYTES, 0x5a);
  const aad = Buffer.alloc(AAD_BYTES, 0x61);
  const chunk = Buffer.alloc(frames * hotFrameBytes(data, aad));
  let end = 0;
  for (let i = 0; i < frames; i++) end = writeHotFrame(chunk, end, i, OP.encrypt, keyId, data, aad);
  return chunk.subarray(0, end);
}

/** Of the first frame, if all of it is there. */
function bodyOf(bytes) {
  const end = bytes.length < FRAME_HEADER_BYTES ? Infinity : FRAME_HEADER_BYTES + bytes.readUInt32BE(0);
  return bytes.length < end ? undefined : bytes.subarray(FRAME_HEADER_BYTES, end);
}

/** Calls `onFrame` with the body of each frame that comes. */
function eachFrame(peer, onFrame) {
  let held = Buffer.alloc(0);
  peer.on('data', (bytes) => {
    held = Buffer.concat([held, bytes]);
    for (let body = bodyOf(held); body !== undefined; body = bodyOf(held)) {
      onFrame(body);
      held = held.subarray(FRAME_HEADER_BYTES + body.length);
    }
  });
}

/** A chunk at a time, with one write, and then the answers to all of it: each is one turn of the daemon's loop. */
function turnsOf(peer, chunk, frames) {
  let missing = 0;
  let answered = () => {};
  eachFrame(peer, (answer) => {
    if (answer.length < PLAINTEXT_BYTES + OVERHEAD) peer.destroy(new Error('the daemon did not encrypt'));
    if (--missing === 0) answered();
  });
  const turn = () =>
    new Promise((resolve) => {
      missing = frames;
      answered = resolve;
      peer.write(chunk);
    });
  return async (turns) => {
    for (let i = 0; i < turns; i++) await turn();
  };
}

/** Bytes by chunk. */
export async function measureDaemonAllocations(scratch) {
  const home = mkdtempSync(join(scratch, 'counted-daemon-'));
  const socket = join(home, 'kms.sock');
  const child = await start(home, socket);
  const ask = async (question) => {
    child.send(question);
    return (await once(child, 'message'))[0];
  };
  const measured = {};
  try {
    const keyId = await newKey(socket);
    for (const frames of CHUNKS) {
      const peer = connect(socket);
      await once(peer, 'connect');
      const run = turnsOf(peer, chunkOf(frames, keyId), frames);
      await run(WARM_UP);
      const block = { collect: () => ask('collect'), read: () => ask('used'), run, blocks: BLOCKS, operations: TURNS };
      measured[`daemon, chunk of ${frames}`] = await allocatedPerOperation(block);
      peer.destroy();
    }
  } finally {
    await stop(child);
  }
  return measured;
}
