/** Frames of every kind of wrong, made fast from a seed. A frame is its bytes, and where in its body a byte may change without harm. */

export interface Frame {
  bytes: Buffer;
  /** Bytes of strings and binaries: changing one keeps the frame well-formed. Empty if there is none. */
  payload: [start: number, end: number];
}

/** The id is always written as a uint32 here, so that it can be patched; frames with other encodings come from `wildId`. */
const ID_AT = 6;
const SEAL = 16;
const SCRATCH_BYTES = 256 * 1024;

/** Whether a random frame could be the one that seals the daemon, which is allowed and would end the test for a good reason. */
export function mightSeal(frame: Buffer): boolean {
  return frame[frame.length - 1] === SEAL;
}

/** Writes MessagePack of every type and encoding. */
class Scribe {
  readonly #to = Buffer.alloc(SCRATCH_BYTES);
  #at = 0;
  payload: [number, number] = [0, 0];

  constructor(
    readonly random: () => number,
    readonly keyId: string,
  ) {}

  begin(): void {
    this.#at = 4;
    this.payload = [0, 0];
  }

  end(): Frame {
    this.#to.writeUInt32BE(this.#at - 4, 0);
    return { bytes: Buffer.from(this.#to.subarray(0, this.#at)), payload: this.payload };
  }

  below(limit: number): number {
    return Math.floor(this.random() * limit);
  }

  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)] as T;
  }

  raw(...bytes: number[]): void {
    for (const byte of bytes) this.#to[this.#at++] = byte;
  }

  #sized(marker: number, width: 1 | 2 | 4, length: number): void {
    this.raw(marker);
    this.#to.writeUIntBE(length, this.#at, width);
    this.#at += width;
  }

  noise(length: number): void {
    this.payload = [this.#at, this.#at + length];
    for (let left = length; left > 0; left -= 1) this.raw(32 + this.below(95));
  }

  uint(value: number): void {
    const widths = [1, 2, 4].filter((width) => value < 2 ** (8 * width)) as Array<1 | 2 | 4>;
    const width = this.pick(widths);
    if (value < 128 && this.below(2) === 0) this.raw(value);
    else this.#sized(width === 1 ? 0xcc : width === 2 ? 0xcd : 0xce, width, value);
  }

  id32(value: number): void {
    this.#sized(0xce, 4, value);
  }

  array(length: number): void {
    const form = this.below(4);
    if (form > 1 && length < 16) this.raw(0x90 | length);
    else if (form > 0) this.#sized(0xdc, 2, length);
    else this.#sized(0xdd, 4, length);
  }

  text(value: string): void {
    const bytes = Buffer.from(value, 'utf8');
    const form = this.below(4);
    if (form === 3 && bytes.length < 32) this.raw(0xa0 | bytes.length);
    else if (form >= 2 && bytes.length < 256) this.#sized(0xd9, 1, bytes.length);
    else if (form === 1) this.#sized(0xda, 2, bytes.length);
    else this.#sized(0xdb, 4, bytes.length);
    bytes.copy(this.#to, this.#at);
    this.#at += bytes.length;
  }

  binary(length: number): void {
    const form = this.below(3);
    if (form === 2 && length < 256) this.#sized(0xc4, 1, length);
    else if (form === 1) this.#sized(0xc5, 2, length);
    else this.#sized(0xc6, 4, length);
    this.noise(length);
  }

  /** Extensions in every form: timestamps (type −1), the record definitions of msgpackr (0x72), anything. */
  extension(): void {
    const type = this.pick([0xff, 0x72, 0x73, this.below(256)]);
    const form = this.below(8);
    if (form < 5) {
      this.raw(0xd4 + form, type);
      this.noise(2 ** form);
      return;
    }
    const length = this.pick([0, 4, 8, 12, this.below(40)]);
    const width = ([1, 2, 4] as const)[form - 5]!;
    this.#sized(0xc7 + form - 5, width, length);
    this.raw(type);
    this.noise(length);
  }

  number(): void {
    const form = this.below(6);
    if (form === 0) this.raw(0xe0 | this.below(32));
    else if (form === 1) this.uint(this.below(2 ** this.below(33)));
    else if (form === 2) this.raw(0xca, ...this.#bytes(4));
    else if (form === 3) this.raw(0xcb, ...this.#bytes(8));
    else if (form === 4) this.raw(0xcf, ...this.#bytes(8));
    else {
      const width = this.below(4);
      this.raw(0xd0 + width, ...this.#bytes(2 ** width));
    }
  }

  #bytes(count: number): number[] {
    return Array.from({ length: count }, () => this.below(256));
  }

  value(depth = 0): void {
    const form = this.below(depth < 3 ? 10 : 8);
    if (form === 0) this.raw(0xc0);
    else if (form === 1) this.raw(0xc2 + this.below(2));
    else if (form <= 3) this.number();
    else if (form === 4) this.text(this.pick(['', 'k_', this.keyId, '../../x', '\u{1f511}', 'k_'.padEnd(70, '0'), 'active ']));
    else if (form <= 6) this.binary(this.pick([0, 1, 12, 28, 45, this.below(300)]));
    else if (form === 7) this.extension();
    else if (form === 8) this.list(depth);
    else this.map(depth);
  }

  list(depth: number): void {
    const length = this.below(5);
    this.array(length);
    for (let index = 0; index < length; index += 1) this.value(depth + 1);
  }

  map(depth: number): void {
    const length = this.below(4);
    if (this.below(2) === 0) this.raw(0x80 | length);
    else this.#sized(0xde, 2, length);
    for (let index = 0; index < length; index += 1) {
      this.text(`${this.pick(['thread_id', 'cursor', 'limit', '__proto__', 'wait'])}${'_'.repeat(index)}`);
      this.value(depth + 1);
    }
  }
}

const HOT = [2, 3, 4, 5];
/** Creates, and the rotation. */
const LASTING = [1, 8, 11];

/** A request that every server must answer, by whatever code: an array with a readable id, and any values behind it. */
function request(scribe: Scribe): Frame {
  scribe.begin();
  const op = scribe.pick([...HOT, ...HOT, 0, 1, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 255, 65_536]);
  const count = op === SEAL ? 1 + scribe.below(3) : scribe.below(5);
  scribe.raw(0x90 | (2 + count));
  scribe.id32(1);
  if (scribe.below(40) === 0) scribe.value();
  else scribe.uint(op);
  for (let index = 0; index < count; index += 1) {
    // Those that could succeed would fill the disk and the memory, and open files, and rightly so.
    if (LASTING.includes(op)) scribe.pick([() => scribe.number(), () => scribe.binary(5), () => scribe.extension()])();
    else scribe.value();
  }
  return scribe.end();
}

/** A request of the hot operations that is right, or has one argument of a wrong type. */
function almostRight(scribe: Scribe): Frame {
  scribe.begin();
  const op = scribe.pick(HOT);
  const wrong = scribe.below(5);
  scribe.raw(0x95);
  scribe.id32(1);
  scribe.uint(op);
  if (wrong === 0) scribe.value();
  else scribe.text(scribe.keyId);
  if (wrong === 1) scribe.value();
  else if (op <= 3) scribe.binary(scribe.below(200));
  else {
    const items = scribe.below(6);
    scribe.array(items);
    for (let index = 0; index < items; index += 1) scribe.binary(scribe.below(60));
  }
  if (wrong === 2) scribe.value();
  else if (wrong === 3) scribe.binary(scribe.below(40));
  else scribe.raw(0xc0);
  return scribe.end();
}

const HUGE = [[0xc6], [0xdb], [0xdd], [0xdf], [0xc9]].map(([marker]) => [marker as number, 0xff, 0xff, 0xff, 0xff]);

/** What a server may end the connection for. */
function hostile(scribe: Scribe): Frame {
  scribe.begin();
  const kind = scribe.below(8);
  if (kind === 0) {
    // Random bytes behind a right length.
    for (let left = 1 + scribe.below(120); left > 0; left -= 1) scribe.raw(scribe.below(256));
  } else if (kind === 1) {
    scribe.raw(0x94, 5, scribe.pick(HOT), ...scribe.pick(HUGE));
  } else if (kind === 2) {
    // Deeper than any stack: arrays in arrays, with and without an end.
    scribe.raw(0x93, 5, scribe.below(18));
    for (let left = scribe.pick([9, 100, 20_000]); left > 0; left -= 1) scribe.raw(scribe.pick([0x91, 0x91, 0x81]));
    scribe.raw(0xc0);
  } else if (kind === 3) scribe.value();
  else if (kind === 4) scribe.raw(0x92, scribe.pick([0xc0, 0xff, 0xc1, 0xca]), 2);
  else if (kind === 5) scribe.raw(0x93, 7, 2, 0xa4, 0xff, 0xfe, 0x80, 0x80);
  else return changed(scribe, scribe.pick([request, almostRight])(scribe), kind === 6);
  return scribe.end();
}

/** A well-formed frame with some bytes changed, or with its end cut off and the length put right. */
function changed(scribe: Scribe, { bytes }: Frame, cut: boolean): Frame {
  const size = cut ? 5 + scribe.below(bytes.length - 5) : bytes.length;
  const whole = Buffer.from(bytes.subarray(0, size));
  whole.writeUInt32BE(size - 4, 0);
  for (let left = cut ? 0 : 1 + scribe.below(4); left > 0; left -= 1) whole[4 + scribe.below(size - 4)] = scribe.below(256);
  return { bytes: whole, payload: [0, 0] };
}

export interface Pools {
  /** Each has exactly one answer. */
  answered: Frame[];
  hostile: Frame[];
}

export function makePools(random: () => number, keyId: string, size: number): Pools {
  const scribe = new Scribe(random, keyId);
  const harmless = (count: number, make: () => Frame) =>
    Array.from({ length: count }, make).filter(({ bytes }) => !mightSeal(bytes));
  return {
    answered: harmless(size, () => (scribe.below(3) === 0 ? request(scribe) : almostRight(scribe))),
    hostile: harmless(size / 4, () => hostile(scribe)),
  };
}

/** Copies a frame to `to` under an id, one byte of its payload changed: two copies are hardly ever the same. */
export function copyVaried({ bytes, payload }: Frame, to: Buffer, at: number, id: number, random: () => number): number {
  bytes.copy(to, at);
  to.writeUInt32BE(id, at + ID_AT);
  const [start, end] = payload;
  if (end > start) to[at + start + Math.floor(random() * (end - start))] = 32 + Math.floor(random() * 95);
  return at + bytes.length;
}
