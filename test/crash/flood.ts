import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { copyVaried, makePools, type Pools } from './flood-frames.js';

const LANES = 3;
const POOL = 4_000;
/** The pool is made anew after that many frames. */
const POOL_FRAMES = 50_000;
const BATCH = 60;
const MOST_BATCHES = 3;
const MOST_HOSTILE = 12;
const STALL_MS = 30_000;
const BREAK_SHARE = 1 / 4;
const LARGEST_FRAME = 32 * 1024;

export interface FloodFigures {
  /** Frames the daemon answered; nothing else counts as sent. */
  frames: number;
  /** Of them: those it ended the connection for. */
  fatal: number;
  connections: number;
  /** Frames begun and never ended, or announced longer than any may be. */
  broken: number;
}

/** Counts the answers on one connection. */
class Answers {
  count = 0;
  /** An answer to id 0: the daemon gives the stream up. */
  fatal = false;
  closed = false;
  #rest: Buffer = Buffer.alloc(0);
  #wake: () => void = () => {};

  constructor(readonly socket: Socket) {
    socket.on('data', (bytes) => this.#take(bytes));
    socket.on('error', () => {});
    // An answer that never comes must fail the test by name, not by the runner's time limit.
    socket.setTimeout(STALL_MS, () => socket.destroy());
    socket.on('close', () => {
      this.closed = true;
      this.#wake();
    });
  }

  #take(bytes: Buffer): void {
    const all = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    let at = 0;
    while (at + 4 <= all.length) {
      const end = at + 4 + all.readUInt32BE(at);
      if (end > all.length) break;
      if (all[at + 5] === 0) this.fatal = true;
      this.count += 1;
      at = end;
    }
    this.#rest = all.subarray(at);
    this.#wake();
  }

  /** Until there are `count` answers, or the connection is gone. */
  async until(count: number): Promise<void> {
    while (this.count < count && !this.closed) await new Promise<void>((wake) => (this.#wake = wake));
  }
}

/** Sends frames to the daemon at `path`, over and over on new connections. */
export class Flood {
  readonly figures: FloodFigures = { frames: 0, fatal: 0, connections: 0, broken: 0 };
  #pools: Pools;
  #poolUntil = POOL_FRAMES;

  constructor(
    private readonly path: string,
    private readonly keyId: string,
    private readonly random: () => number,
  ) {
    this.#pools = makePools(random, keyId, POOL);
  }

  /** Goes on until `frames` have been answered in all. Throws if a frame that must be answered is not. */
  async until(frames: number): Promise<void> {
    await Promise.all(Array.from({ length: LANES }, () => this.#lane(frames)));
  }

  async #lane(frames: number): Promise<void> {
    const room = Buffer.alloc(BATCH * 1024 + LARGEST_FRAME);
    while (this.figures.frames < frames) await this.#connection(room);
  }

  #pick<T>(from: T[]): T {
    return from[Math.floor(this.random() * from.length)] as T;
  }

  async #connection(room: Buffer): Promise<void> {
    const socket = connect(this.path);
    await once(socket, 'connect');
    this.figures.connections += 1;
    const answers = new Answers(socket);
    for (let left = 1 + Math.floor(this.random() * MOST_BATCHES); left > 0; left -= 1) {
      const expected = answers.count + BATCH;
      socket.write(Buffer.from(room.subarray(0, this.#fill(room))));
      await answers.until(expected);
      if (answers.count !== expected || answers.fatal) throw new Error(`${expected - answers.count} frames were not answered`);
    }
    if (this.random() < BREAK_SHARE) await this.#breakOff(socket);
    else await this.#provoke(answers);
    this.figures.frames += answers.count;
    socket.destroy();
    if (this.figures.frames < this.#poolUntil) return;
    this.#poolUntil += POOL_FRAMES;
    this.#pools = makePools(this.random, this.keyId, POOL);
  }

  #fill(room: Buffer): number {
    let at = 0;
    for (let id = 1; id <= BATCH; id += 1) at = copyVaried(this.#pick(this.#pools.answered), room, at, id, this.random);
    return at;
  }

  /** Hostile frames one by one, until the daemon has had enough. */
  async #provoke(answers: Answers): Promise<void> {
    for (let tries = 0; tries < MOST_HOSTILE && !answers.fatal; tries += 1) {
      const before = answers.count;
      answers.socket.write(this.#pick(this.#pools.hostile).bytes);
      await answers.until(before + 1);
      if (answers.count === before) throw new Error('a hostile frame was neither answered nor refused');
    }
    if (answers.fatal) this.figures.fatal += 1;
  }

  /** A frame that never ends, and then the connection does. */
  async #breakOff(socket: Socket): Promise<void> {
    const { bytes } = this.#pick(this.#pools.answered);
    const announced = Buffer.from([this.random() < 0.5 ? 0 : 0x7f, 0xff, 0xff, 0xff, 0x93]);
    const broken = this.random() < 0.5 ? bytes.subarray(0, 1 + Math.floor(this.random() * (bytes.length - 1))) : announced;
    await new Promise<void>((sent) => socket.write(broken, () => sent()));
    this.figures.broken += 1;
  }
}
