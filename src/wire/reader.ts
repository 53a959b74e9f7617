/** What a MessagePack extension reads as: no position of the protocol accepts it, so it is refused where it stands. */
export const EXTENSION: unique symbol = Symbol('a MessagePack extension');

/** Not MessagePack, or not the type that the position asks for. */
export class MalformedMessage extends Error {
  override name = 'MalformedMessage';
}

/** The deepest message of the protocol, a list of key maps in an answer, has four levels; a bomb of arrays ends here. */
const MAX_DEPTH = 8;

/**
 * Reads MessagePack in place, by position, and nothing but plain values: msgpackr's decoder can not be told to refuse
 * record definitions, dates, regular expressions and the other objects that its extensions build for a peer.
 * Takes every valid encoding of a type. Binaries are views of the message.
 */
export class Reader {
  private bytes: Buffer = Buffer.alloc(0);
  private end = 0;
  at = 0;

  open(bytes: Buffer, start: number, end: number): this {
    this.bytes = bytes;
    this.at = start;
    this.end = end;
    return this;
  }

  /** Throws unless the one value was all of the message. */
  finish(): void {
    if (this.at !== this.end) throw new MalformedMessage('bytes after the value');
  }

  /** The next value's first byte, left where it is. */
  peek(): number {
    if (this.at >= this.end) throw new MalformedMessage('the message ends too early');
    return this.bytes[this.at]!;
  }

  isArray(): boolean {
    const marker = this.peek();
    return (marker >= 0x90 && marker <= 0x9f) || marker === 0xdc || marker === 0xdd;
  }

  arrayLength(): number {
    const marker = this.marker();
    if (marker >= 0x90 && marker <= 0x9f) return marker & 0x0f;
    if (marker === 0xdc) return this.number16();
    if (marker === 0xdd) return this.number32();
    throw new MalformedMessage('an array was expected');
  }

  /** An unsigned integer up to 2^53 − 1, in any integer encoding. */
  uint(): number {
    const marker = this.marker();
    if (marker < 0x80) return marker;
    const value = this.integer(marker);
    if (typeof value !== 'number' || value < 0) throw new MalformedMessage('an unsigned integer was expected');
    return value;
  }

  /** The length of a binary, whose bytes begin `at`; the caller steps over them. */
  binLength(): number {
    const marker = this.marker();
    let length: number;
    if (marker === 0xc4) length = this.number8();
    else if (marker === 0xc5) length = this.number16();
    else if (marker === 0xc6) length = this.number32();
    else throw new MalformedMessage('a binary was expected');
    this.need(length);
    return length;
  }

  string(): string {
    const length = this.stringLength(this.marker());
    if (length < 0) throw new MalformedMessage('a string was expected');
    return this.text(length);
  }

  /** Any value: null, boolean, number, bigint (beyond 2^53), string, Buffer, array, object, or `EXTENSION`. */
  value(depth = 0): unknown {
    const marker = this.peek();
    if (depth > MAX_DEPTH) throw new MalformedMessage('nested too deep');
    if (marker === 0xc0 || marker === 0xc2 || marker === 0xc3) {
      this.at++;
      return marker === 0xc0 ? null : marker === 0xc3;
    }
    if (marker >= 0xc4 && marker <= 0xc6) {
      const length = this.binLength();
      this.at += length;
      return this.bytes.subarray(this.at - length, this.at);
    }
    if (this.isArray()) return this.array(depth);
    if ((marker >= 0x80 && marker <= 0x8f) || marker === 0xde || marker === 0xdf) return this.map(depth);
    this.at++;
    const length = this.stringLength(marker);
    return length >= 0 ? this.text(length) : this.scalar(marker);
  }

  private array(depth: number): unknown[] {
    const length = this.arrayLength();
    // Each item has at least a byte: an announced length beyond the message must not reserve memory for itself.
    this.need(length);
    const items: unknown[] = [];
    for (let index = 0; index < length; index++) items.push(this.value(depth + 1));
    return items;
  }

  private map(depth: number): Record<string, unknown> {
    const marker = this.marker();
    const length = marker <= 0x8f ? marker & 0x0f : marker === 0xde ? this.number16() : this.number32();
    this.need(2 * length);
    // Without a prototype, so that a peer's `__proto__` is a member like any other.
    const map: Record<string, unknown> = Object.create(null);
    for (let index = 0; index < length; index++) {
      const key = this.string();
      if (key in map) throw new MalformedMessage('a map has a key twice');
      map[key] = this.value(depth + 1);
    }
    return map;
  }

  private scalar(marker: number): unknown {
    if (marker <= 0x7f || marker >= 0xe0 || (marker >= 0xcc && marker <= 0xd3)) return this.integer(marker);
    if (marker === 0xca) {
      this.need(4);
      this.at += 4;
      return this.bytes.readFloatBE(this.at - 4);
    }
    if (marker === 0xcb) {
      this.need(8);
      this.at += 8;
      return this.bytes.readDoubleBE(this.at - 8);
    }
    let length: number;
    if (marker >= 0xd4 && marker <= 0xd8) length = 1 << (marker - 0xd4);
    else if (marker === 0xc7) length = this.number8();
    else if (marker === 0xc8) length = this.number16();
    else if (marker === 0xc9) length = this.number32();
    else throw new MalformedMessage('a byte that is never used');
    this.need(length + 1);
    this.at += length + 1;
    return EXTENSION;
  }

  private integer(marker: number): number | bigint {
    if (marker <= 0x7f) return marker;
    if (marker >= 0xe0) return marker - 0x100;
    switch (marker) {
      case 0xcc:
        return this.number8();
      case 0xcd:
        return this.number16();
      case 0xce:
        return this.number32();
      case 0xd0:
        return (this.number8() << 24) >> 24;
      case 0xd1:
        return (this.number16() << 16) >> 16;
      case 0xd2:
        return this.number32() | 0;
      case 0xcf:
      case 0xd3: {
        this.need(8);
        this.at += 8;
        const value = marker === 0xcf ? this.bytes.readBigUInt64BE(this.at - 8) : this.bytes.readBigInt64BE(this.at - 8);
        const number = Number(value);
        return Number.isSafeInteger(number) ? number : value;
      }
      default:
        throw new MalformedMessage('an integer was expected');
    }
  }

  /** −1 for a marker that is not a string's. */
  private stringLength(marker: number): number {
    if (marker >= 0xa0 && marker <= 0xbf) return marker & 0x1f;
    if (marker === 0xd9) return this.number8();
    if (marker === 0xda) return this.number16();
    if (marker === 0xdb) return this.number32();
    return -1;
  }

  private text(length: number): string {
    this.need(length);
    // The one-digit key version of every encrypt: V8 keeps the strings of one character.
    if (length === 1 && this.bytes[this.at]! < 0x80) return String.fromCharCode(this.bytes[this.at++]!);
    this.at += length;
    return this.bytes.toString('utf8', this.at - length, this.at);
  }

  private marker(): number {
    const marker = this.peek();
    this.at++;
    return marker;
  }

  private need(length: number): void {
    if (length > this.end - this.at) throw new MalformedMessage('the message ends too early');
  }

  private number8(): number {
    this.need(1);
    return this.bytes[this.at++]!;
  }

  private number16(): number {
    this.need(2);
    const { bytes, at } = this;
    this.at = at + 2;
    return (bytes[at]! << 8) | bytes[at + 1]!;
  }

  private number32(): number {
    this.need(4);
    const { bytes, at } = this;
    this.at = at + 4;
    return bytes[at]! * 0x1000000 + ((bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!);
  }
}
