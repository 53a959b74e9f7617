import { createHash } from 'node:crypto';

/** Lines that follow each other, as far as a start looks at them: their signatures are made up. */
export class Lines {
  seq: number;
  hash: Buffer;

  constructor(seq = 0, hash: Buffer = Buffer.alloc(32)) {
    this.seq = seq;
    this.hash = hash;
  }

  next(members: Record<string, unknown> = { type: 'create_dek', actor: 'uid:1', outcome: 'ok', generation: 3 }): Buffer {
    this.seq += 1;
    const head = { seq: this.seq, time: '2026-01-31T12:00:00.000Z', boot: '0123456789abcdef', prev: this.hash.toString('hex') };
    const line = JSON.stringify({ event: { ...head, ...members }, sig: Buffer.alloc(32, 1).toString('base64') });
    this.hash = createHash('sha256').update(line).digest();
    return Buffer.from(`${line}\n`);
  }

  checkpoint(signingKey = 'key-1'): Buffer {
    return this.next({ type: 'checkpoint', actor: 'uid:1', generation: 4, lines: 1, signing_key: signingKey });
  }

  many(count: number): Buffer {
    return Buffer.concat(Array.from({ length: count }, () => this.next()));
  }
}
