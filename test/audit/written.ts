import {
  createCipheriv,
  createHash,
  createHmac,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
  randomBytes,
  sign,
} from 'node:crypto';

/** A writer of logs for tests, from docs/FORMATS.md alone and with none of the product's code. */

export const SPKI_HEAD_BYTES = 12;

export interface Pair {
  /** Base64. */
  publicKey: string;
  privateKey: KeyObject;
}

export function newPair(kind: 'ed25519' | 'x25519'): Pair {
  const { publicKey, privateKey } = kind === 'ed25519' ? generateKeyPairSync('ed25519') : generateKeyPairSync('x25519');
  const raw = publicKey.export({ type: 'spki', format: 'der' }).subarray(SPKI_HEAD_BYTES);
  return { publicKey: raw.toString('base64'), privateKey };
}

/** The 32 bytes of a private key. */
export function secretOf({ privateKey }: Pair): Buffer {
  return privateKey.export({ type: 'pkcs8', format: 'der' }).subarray(-32);
}

type Value = string | number | boolean | null;
export type Members = Record<string, Value>;

function sha256(...parts: Array<string | Uint8Array>): Buffer {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
}

function lengthPrefixed(...fields: string[]): Buffer {
  return Buffer.concat(
    fields.map((field) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(Buffer.byteLength(field));
      return Buffer.concat([length, Buffer.from(field)]);
    }),
  );
}

function sealedTo(auditor: string, key: Buffer, storeId: string, boot: string): string {
  const info = 'progressdb-kms/audit-epoch/v1';
  const own = newPair('x25519');
  const theirs = createPublicKey({
    key: { kty: 'OKP', crv: 'X25519', x: Buffer.from(auditor, 'base64').toString('base64url') },
    format: 'jwk',
  });
  const shared = diffieHellman({ privateKey: own.privateKey, publicKey: theirs });
  const e = Buffer.from(own.publicKey, 'base64');
  const under = Buffer.from(hkdfSync('sha256', shared, Buffer.concat([e, Buffer.from(auditor, 'base64')]), info, 32));
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', under, nonce).setAAD(lengthPrefixed(info, storeId, boot));
  return Buffer.concat([e, nonce, cipher.update(key), cipher.final(), cipher.getAuthTag()]).toString('base64');
}

export const DATA_TYPES = ['encrypt', 'decrypt', 'get_wrapped', 'denied'];

export interface Written {
  type: string;
  actor?: string;
  key_id?: string;
  thread_id?: string;
  outcome?: string;
  own?: Members;
  /** What to write instead of the event as it should be: its members, or its text. */
  forge?: (event: Members) => Members | string;
  /** What to write instead of the whole line. */
  forgeLine?: (line: string) => string | Buffer;
  signer?: Pair;
  sig?: string;
}

/** Lines of one store, in memory. */
export class WrittenLog {
  readonly storeId = randomBytes(16).toString('hex');
  readonly lines: Buffer[] = [];
  readonly first: Pair;
  generation = 1;
  time = Date.parse('2026-01-31T12:00:00.000Z');
  boot = '';
  signer: Pair;
  #key: Buffer = Buffer.alloc(0);
  #sinceCheckpoint = 0;

  constructor(readonly auditor?: string) {
    this.first = newPair('ed25519');
    this.signer = this.first;
  }

  /** All of it, each line ended. */
  bytes(from = 0, to = this.lines.length): Buffer {
    return Buffer.concat(this.lines.slice(from, to).flatMap((line) => [line, Buffer.from('\n')]));
  }

  /** A start, the announcement of its own signing key, and a checkpoint under it. */
  start(forge?: Written['forge']): void {
    this.boot = randomBytes(8).toString('hex');
    this.#key = randomBytes(32);
    const epoch = this.auditor === undefined ? null : sealedTo(this.auditor, this.#key, this.storeId, this.boot);
    const own = {
      format: 1,
      store_id: this.storeId,
      version: '0.1.0',
      signing_key: this.signer.publicKey,
      epoch_key: epoch,
      auditor_key: this.auditor ?? null,
      data_operations: 'grouped',
    };
    this.write({ type: 'start', own, ...(forge !== undefined && { forge }) });
    this.succeed();
    this.checkpoint();
  }

  succeed(): void {
    const next = newPair('ed25519');
    this.write({ type: 'signing_key', own: { public: next.publicKey } });
    this.signer = next;
  }

  checkpoint(forged: Pick<Written, 'forge' | 'forgeLine' | 'signer' | 'sig'> = {}): void {
    const lines = this.#sinceCheckpoint;
    this.write({ type: 'checkpoint', own: { lines, signing_key: this.signer.publicKey }, ...forged });
    this.#sinceCheckpoint = 0;
  }

  event(written: Written): Members {
    const isPlain = !['checkpoint', 'signing_key', 'recovered'].includes(written.type);
    const last = this.lines.at(-1);
    return {
      seq: this.lines.length + 1,
      time: new Date(this.time++).toISOString(),
      boot: this.boot,
      prev: last === undefined ? '0'.repeat(64) : sha256(last).toString('hex'),
      type: written.type,
      actor: written.actor ?? 'uid:1000',
      ...(written.key_id !== undefined && { key_id: written.key_id }),
      ...(written.thread_id !== undefined && { thread_id: written.thread_id }),
      ...(isPlain && { outcome: written.outcome ?? 'ok' }),
      ...(!DATA_TYPES.includes(written.type) && { generation: this.generation }),
      ...written.own,
    };
  }

  write(written: Written): void {
    const members = this.event(written);
    const forged = written.forge?.(members) ?? members;
    const event = Buffer.from(typeof forged === 'string' ? forged : JSON.stringify(forged));
    const sig = written.sig ?? createHmac('sha256', this.#key).update(event).digest('base64');
    this.#key = sha256('evolve', this.#key);
    const isSigned = written.type === 'checkpoint' || written.type === 'signing_key';
    const { privateKey } = written.signer ?? this.signer;
    const signed = Buffer.concat([Buffer.from(`progressdb-kms/audit/v1\0${this.storeId}\0`), event]);
    const ed25519 = isSigned ? `,"ed25519":"${sign(null, signed, privateKey).toString('base64')}"` : '';
    const line = `{"event":${event},"sig":"${sig}"${ed25519}}`;
    this.lines.push(Buffer.from(written.forgeLine?.(line) ?? line));
    this.#sinceCheckpoint++;
  }
}

/** A log of `count` lines with events of many types and three starts, closed by a checkpoint. */
export function typicalLog(count: number, auditor?: string): WrittenLog {
  const log = new WrittenLog(auditor);
  log.start();
  const key = (n: number) => `k_${sha256(`${n}`).toString('hex').slice(0, 32)}`;
  const starts = [Math.floor(count / 3), Math.floor((2 * count) / 3)];
  while (log.lines.length < count - 1) {
    const n = log.lines.length;
    if (starts.some((at) => n >= at && n < at + 1)) {
      log.write({ type: 'stop' });
      log.checkpoint();
      log.start();
    } else if (n % 50 === 0) log.checkpoint();
    else if (n % 7 === 0) log.write({ type: 'create_dek', key_id: key(n), thread_id: `chat/${n}` });
    else if (n % 11 === 0)
      log.write({ type: 'denied', actor: 'anonymous', outcome: 'UNAUTHENTICATED', own: { why: 'a "token" \\ é ' } });
    else if (n % 13 === 0) {
      log.generation++;
      log.write({ type: 'rotate_kek', own: { step: 'complete', kek_version: log.generation } });
    } else {
      const span = { first: new Date(log.time - 100).toISOString(), last: new Date(log.time).toISOString() };
      log.write({ type: 'encrypt', key_id: key(n), thread_id: '', own: { count: n, bytes: 64 * n, ...span } });
    }
  }
  log.checkpoint();
  return log;
}
