const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const NONE = 255;
const EQUALS = 0x3d;

const VALUES = new Uint8Array(256).fill(NONE);
for (let i = 0; i < ALPHABET.length; i++) VALUES[ALPHABET.charCodeAt(i)] = i;

/** How many characters `bytes` bytes have in base64. */
export function base64Length(bytes: number): number {
  return 4 * Math.ceil(bytes / 3);
}

/**
 * Whether the characters from `from` on are the one base64 form of `bytes` bytes: what decoders pass over, foreign characters and
 * stray bits in the last one, would let a line be changed without changing what it says.
 */
export function isBase64(text: Uint8Array, from: number, bytes: number): boolean {
  const end = from + base64Length(bytes);
  if (end > text.length) return false;
  const padding = (3 - (bytes % 3)) % 3;
  let last = 0;
  for (let at = from; at < end - padding; at++) {
    last = VALUES[text[at] as number] as number;
    if (last === NONE) return false;
  }
  for (let at = end - padding; at < end; at++) if (text[at] !== EQUALS) return false;
  return (last & ((1 << (2 * padding)) - 1)) === 0;
}

/** The bytes of a text that is their one base64 form, undefined if it is not. */
export function decodeBase64(text: unknown, bytes: number): Buffer | undefined {
  if (typeof text !== 'string' || text.length !== base64Length(bytes)) return undefined;
  return isBase64(Buffer.from(text, 'latin1'), 0, bytes) ? Buffer.from(text, 'base64') : undefined;
}
