import { encode } from '@msgpack/msgpack';
import notepack from 'notepack.io';

/** A MessagePack value as the protocol has them. */
export type Value = null | number | string | Uint8Array | Value[];

/** Picks one of `count` possibilities, again and again. */
export type Choice = (count: number) => number;

/** A source of choices that goes round in a list of numbers. */
export function choices(numbers: readonly number[]): Choice {
  let at = 0;
  return (count) => numbers[at++ % numbers.length]! % count;
}

function head(marker: number, bytes: number, value: number | bigint): Buffer {
  const out = Buffer.alloc(1 + bytes);
  out[0] = marker;
  for (let i = bytes, rest = BigInt(value); i > 0; i -= 1, rest >>= 8n) out[i] = Number(rest & 0xffn);
  return out;
}

/** Every valid encoding of an unsigned integer. */
export function integerEncodings(value: number): Buffer[] {
  const all: Buffer[] = value < 128 ? [Buffer.of(value)] : [];
  for (const [bits, unsigned, signed] of [
    [8, 0xcc, 0xd0],
    [16, 0xcd, 0xd1],
    [32, 0xce, 0xd2],
    [64, 0xcf, 0xd3],
  ] as const) {
    if (value < 2 ** bits) all.push(head(unsigned, bits / 8, value));
    if (value < 2 ** (bits - 1)) all.push(head(signed, bits / 8, value));
  }
  return all;
}

function lengthEncodings(length: number, markers: ReadonlyArray<readonly [bytes: number, marker: number]>): Buffer[] {
  return markers.filter(([bytes]) => length < 2 ** (8 * bytes)).map(([bytes, marker]) => head(marker, bytes, length));
}

function headEncodings(value: Exclude<Value, null | number>): Buffer[] {
  const { length } = typeof value === 'string' ? Buffer.from(value) : value;
  if (Array.isArray(value)) {
    const short = length < 16 ? [Buffer.of(0x90 | length)] : [];
    return [
      ...short,
      ...lengthEncodings(length, [
        [2, 0xdc],
        [4, 0xdd],
      ]),
    ];
  }
  if (typeof value !== 'string')
    return lengthEncodings(length, [
      [1, 0xc4],
      [2, 0xc5],
      [4, 0xc6],
    ]);
  const short = length < 32 ? [Buffer.of(0xa0 | length)] : [];
  return [
    ...short,
    ...lengthEncodings(length, [
      [1, 0xd9],
      [2, 0xda],
      [4, 0xdb],
    ]),
  ];
}

/** One of the valid encodings, chosen anew for every part. */
export function encoded(value: Value, choose: Choice): Buffer {
  if (value === null) return Buffer.of(0xc0);
  const heads = typeof value === 'number' ? integerEncodings(value) : headEncodings(value);
  const begin = heads[choose(heads.length)]!;
  if (typeof value === 'number') return begin;
  if (Array.isArray(value)) return Buffer.concat([begin, ...value.map((item) => encoded(item, choose))]);
  return Buffer.concat([begin, Buffer.from(value as string)]);
}

function buffers(value: Value): unknown {
  if (Array.isArray(value)) return value.map(buffers);
  return value instanceof Uint8Array ? Buffer.from(value) : value;
}

/** The encoders that the hot parser is tried with: two of other people, and ours that knows every width. */
export const ENCODERS: ReadonlyArray<(value: Value, choose: Choice) => Buffer> = [
  encoded,
  (value) => Buffer.from(encode(value)),
  (value) => notepack.encode(buffers(value)),
];

export function framed(body: Uint8Array): Buffer {
  return Buffer.concat([head(0, 3, body.length), body]);
}
