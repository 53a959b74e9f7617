import * as crypto from 'node:crypto';

type OneShot = (algorithm: string, data: Uint8Array, encoding: 'hex') => string;

/** Node 20.12 and later have it; a Hash object for each line takes twice the time (measured). */
const oneShot = (crypto as unknown as { hash?: OneShot }).hash;

export const sha256Hex: (data: Uint8Array) => string =
  oneShot === undefined
    ? (data) => crypto.createHash('sha256').update(data).digest('hex')
    : (data) => oneShot('sha256', data, 'hex');
