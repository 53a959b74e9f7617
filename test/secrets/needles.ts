/** What to look for: a name for people and the bytes. */
export interface Needle {
  name: string;
  bytes: Buffer;
}

const HALF = 16;

/** The first eight round constants of SHA-256 (FIPS 180-4, section 4.2.2). */
const K256 = [0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5];

function xored(key: Buffer, pad: number): Buffer {
  return Buffer.from(key.map((byte) => byte ^ pad));
}

function words(key: Buffer, change: (word: number, index: number) => number): Buffer {
  const out = Buffer.alloc(key.length);
  for (let at = 0; at < key.length; at += 4) out.writeUInt32LE(change(key.readUInt32BE(at), at / 4) >>> 0, at);
  return out;
}

function halves(name: string, bytes: Buffer): Needle[] {
  return [
    { name: `${name}/first`, bytes: bytes.subarray(0, HALF) },
    { name: `${name}/last`, bytes: bytes.subarray(-HALF) },
  ];
}

/** Of a half in a vector register the first eight bytes are all that V8 saves before version 13. */
function lows(halvesOfIt: readonly Needle[]): Needle[] {
  return halvesOfIt.map(({ name, bytes }) => ({ name: `${name}-low`, bytes: bytes.subarray(0, HALF / 2) }));
}

function texts(name: string, key: Buffer): Needle[] {
  const hex = key.toString('hex');
  const forms: Array<[string, string]> = [
    ['hex', hex],
    ['upper-hex', hex.toUpperCase()],
    ['base64', key.toString('base64').replace(/=+$/, '')],
    ['base64url', key.toString('base64url')],
  ];
  return forms.flatMap(([form, text]) => [
    ...halves(`${name}/${form}`, Buffer.from(text, 'latin1')),
    // V8 keeps a string with one character beyond latin1 in two bytes each.
    ...halves(`${name}/${form}-16`, Buffer.from(text, 'utf16le')),
  ]);
}

/**
 * All forms in which a 32-byte key may lie in memory. Halves, because AES-256 has them as round keys 0 and 1; and what SHA-256
 * makes of a key that it hashes or that is an HMAC's: padded, its words turned round, and with the round constants added.
 */
export function needlesOf(name: string, key: Buffer): Needle[] {
  if (key.length !== 2 * HALF) throw new Error(`${name} is no key`);
  const hashed: Array<[string, Buffer]> = [
    ['raw', key],
    ['ipad', xored(key, 0x36)],
    ['opad', xored(key, 0x5c)],
  ];
  return [
    ...hashed.flatMap(([form, bytes]) => [
      ...halves(`${name}/${form}`, bytes),
      ...halves(
        `${name}/${form}-words`,
        words(bytes, (word) => word),
      ),
      ...halves(
        `${name}/${form}-schedule`,
        words(bytes, (word, index) => word + K256[index]!),
      ),
    ]),
    ...lows(halves(`${name}/raw`, key)),
    ...texts(name, key),
  ];
}

export function needlesOfAll(keys: ReadonlyMap<string, Buffer>): Needle[] {
  return [...keys].flatMap(([name, key]) => needlesOf(name, key));
}
