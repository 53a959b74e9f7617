import { createHash } from 'node:crypto';
import test from 'ava';
import fc from 'fast-check';
import { KmsError } from '../../dist/errors.js';
import { parseShare, type Share, shareText, slotPrefix } from '../../dist/recovery/share.js';
import { joinShares, makeKey, splitKey } from '../../dist/recovery/split.js';
import { refused, refusedSync } from '../provider/refused.js';
import { seeded } from '../store/seed.js';

const SLOT = `s_${'0123456789abcdef'.repeat(2)}`;
const PREFIX = slotPrefix(SLOT);

async function textsOf(shares: number, threshold: number): Promise<{ key: Buffer; texts: Buffer[] }> {
  const key = makeKey();
  const parts = await splitKey(key, PREFIX, shares, threshold);
  return { key: Buffer.from(key), texts: parts.map(shareText) };
}

function parsed(texts: readonly Buffer[]): Share[] {
  return texts.map((text, index) => parseShare(text, `share ${index + 1}`));
}

/** All ways to choose `count` of the items. */
function choices<T>(items: readonly T[], count: number): T[][] {
  if (count === 0) return [[]];
  return items.flatMap((item, index) => choices(items.slice(index + 1), count - 1).map((rest) => [item, ...rest]));
}

test('any threshold of the shares make the key, and no fewer', async (t) => {
  const { key, texts } = await textsOf(5, 3);
  t.is(choices(texts, 3).length, 10);
  for (const some of choices(texts, 3)) t.deepEqual(Buffer.from(await joinShares(parsed(some))), key);
  for (const some of choices(texts, 2)) {
    await refused(t, joinShares(parsed(some)), 'INVALID_ARGUMENT', /^3 shares are needed, and 2 were given$/);
  }
  t.deepEqual(Buffer.from(await joinShares(parsed(texts))), key, 'more than enough are enough');
});

test('a share is laid down as docs/FORMATS.md says, and can be joined by who only knows that', async (t) => {
  const { key, texts } = await textsOf(3, 2);
  const digits = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
  const points = texts.map((text, index) => {
    t.regex(text.toString(), /^KMS1(-[0-9A-HJKMNP-TV-Z]{5}){16}$/);
    const bits = [...text.toString().slice(5).replaceAll('-', '')]
      .map((digit) => digits.indexOf(digit).toString(2).padStart(5, '0'))
      .join('');
    const bytes = Buffer.from(bits.match(/.{8}/g)!.map((byte) => Number.parseInt(byte, 2)));
    t.is(bytes.length, 50);
    t.is(bytes[0], 1);
    t.is(bytes.subarray(1, 9).toString('hex'), SLOT.slice(2, 18));
    t.deepEqual([bytes[9], bytes[10]], [2, index + 1]);
    const sum = createHash('sha256').update('progressdb-kms/recovery-share/v1').update(bytes.subarray(0, 44)).digest();
    t.deepEqual(bytes.subarray(44), sum.subarray(0, 6));
    return { x: bytes[43]!, values: bytes.subarray(11, 43) };
  });
  const times = (a: number, b: number) => {
    let product = 0;
    for (let bit = 7; bit >= 0; bit -= 1) {
      product = (product << 1) ^ (product & 0x80 ? 0x11b : 0);
      if ((b >> bit) & 1) product ^= a;
    }
    return product & 0xff;
  };
  const over = (a: number, b: number) => [...Array(256).keys()].find((c) => times(c, b) === a)!;
  const [p, q] = points as [(typeof points)[0], (typeof points)[0]];
  const joined = p.values.map((value, i) => times(value, over(q.x, q.x ^ p.x)) ^ times(q.values[i]!, over(p.x, q.x ^ p.x)));
  t.deepEqual(Buffer.from(joined), key);
});

test('a share is read however it is written down', async (t) => {
  const { texts } = await textsOf(2, 2);
  const [text] = texts.map(String) as [string];
  const [wanted] = parsed(texts);
  const ways = [
    text.toLowerCase(),
    text.replaceAll('-', ''),
    text.replaceAll('-', ' '),
    `  ${text}\r`,
    text.replaceAll('0', 'O').replaceAll('1', 'l'),
    text.replaceAll('0', 'o').replaceAll('1', 'I'),
  ].map((way) => way.replace(/^(\s*)KMS[lI]/i, '$1KMS1'));
  for (const way of ways) t.deepEqual(parseShare(Buffer.from(way), 'share'), wanted!, way);
});

test('no single wrong character passes, nor two that changed places', async (t) => {
  const { texts } = await textsOf(2, 2);
  const text = String(texts[0]);
  let tried = 0;
  for (const [at, character] of [...text].entries()) {
    if (at < 5 || character === '-') continue;
    const wrong = `${text.slice(0, at)}${character === 'A' ? 'B' : 'A'}${text.slice(at + 1)}`;
    refusedSync(
      t,
      () => parseShare(Buffer.from(wrong), 'share 4'),
      'INVALID_ARGUMENT',
      /^share 4 has a typing error: its checksum does not match$/,
    );
    const next = text[at + 1];
    if (next === undefined || next === '-' || next === character) continue;
    const swapped = `${text.slice(0, at)}${next}${character}${text.slice(at + 2)}`;
    refusedSync(t, () => parseShare(Buffer.from(swapped), 'share 4'), 'INVALID_ARGUMENT', /typing error/);
    tried += 1;
  }
  t.true(tried > 40);
});

test('what is no share is refused with what is wrong with it', async (t) => {
  const { texts } = await textsOf(2, 2);
  const text = String(texts[0]);
  const cases: Array<[string, RegExp]> = [
    ['', /does not begin with KMS1-/],
    ['hello', /does not begin with KMS1-/],
    [text.slice(0, -1), /has 79 characters and not 80/],
    [`${text}0`, /has 81 characters and not 80/],
    [text.replace(/.$/, 'U'), /a character that no share has/],
    [text.replace(/.$/, '!'), /a character that no share has/],
  ];
  for (const [wrong, detail] of cases)
    refusedSync(t, () => parseShare(Buffer.from(wrong), 'share'), 'INVALID_ARGUMENT', detail, wrong);
  refusedSync(t, () => parseShare(Buffer.from(text.replace('KMS1', 'KMS2')), 'share'), 'UNSUPPORTED', /of another version/);
});

test('the parser takes nothing but shares, whatever it is given', (t) => {
  seeded(
    t,
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      try {
        parseShare(bytes, 'share');
        return false;
      } catch (error) {
        return error instanceof KmsError && ['INVALID_ARGUMENT', 'UNSUPPORTED'].includes(error.code);
      }
    }),
  );
});

test('shares of different keys are told apart, and one given twice is named', async (t) => {
  const [one, other] = [await textsOf(3, 2), makeKey()];
  const foreign = (await splitKey(other, slotPrefix(`s_${'f'.repeat(32)}`), 3, 2)).map(shareText);
  const [first] = one.texts as [Buffer];
  await refused(
    t,
    joinShares(parsed([first, foreign[2]!])),
    'INVALID_ARGUMENT',
    /^share 3 is of another recovery key than share 1$/,
  );
  await refused(t, joinShares(parsed([first, first])), 'INVALID_ARGUMENT', /^share 1 was given twice$/);
  await refused(t, joinShares([]), 'INVALID_ARGUMENT', /^no share was given$/);
});

test('a split must leave something to be shared', async (t) => {
  const key = makeKey();
  await refused(t, splitKey(key, PREFIX, 5, 1), 'INVALID_ARGUMENT', /at least 2/);
  await refused(t, splitKey(key, PREFIX, 2, 3), 'INVALID_ARGUMENT', /3 shares are more than the 2/);
  await refused(t, splitKey(key, PREFIX, 65, 3), 'INVALID_ARGUMENT', /at most 64 shares/);
});

test('two keys are never the same', (t) => {
  t.is(new Set(Array.from({ length: 50 }, () => Buffer.from(makeKey()).toString('hex'))).size, 50);
});
