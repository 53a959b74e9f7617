import { existsSync, readFileSync } from 'node:fs';

/** Beside the checkout, never in it: the file is Google's and of the project's shared data. */
const VECTORS = new URL('../../../shared/vectors/wycheproof/aes_gcm_test.json', import.meta.url);

interface Group {
  keySize: number;
  ivSize: number;
  tagSize: number;
  tests: Array<Record<'key' | 'iv' | 'aad' | 'msg' | 'ct' | 'tag' | 'result' | 'comment', string> & { tcId: number }>;
}

export interface Vector {
  name: string;
  key: Buffer;
  aad: Buffer;
  plain: Buffer;
  /** iv ‖ ct ‖ tag: what a thread key's ciphertext is. */
  ciphertext: Buffer;
  isValid: boolean;
}

/** All tests of 256-bit keys, 96-bit nonces and 128-bit tags; undefined where the file is not there. */
export function wycheproofVectors(): Vector[] | undefined {
  if (!existsSync(VECTORS)) return undefined;
  const { testGroups } = JSON.parse(readFileSync(VECTORS, 'utf8')) as { testGroups: Group[] };
  const ours = testGroups.filter((group) => group.keySize === 256 && group.ivSize === 96 && group.tagSize === 128);
  return ours.flatMap((group) =>
    group.tests.map((one) => {
      if (one.result !== 'valid' && one.result !== 'invalid') throw new Error(`test ${one.tcId}: result ${one.result}`);
      const hex = (text: string) => Buffer.from(text, 'hex');
      return {
        name: `test ${one.tcId} ${one.comment}`,
        key: hex(one.key),
        aad: hex(one.aad),
        plain: hex(one.msg),
        ciphertext: Buffer.concat([hex(one.iv), hex(one.ct), hex(one.tag)]),
        isValid: one.result === 'valid',
      };
    }),
  );
}
