import { createDecipheriv, createHash, createHmac, hkdfSync } from 'node:crypto';
import { createReadStream } from 'node:fs';
import nacl from 'tweetnacl';

// The audit log verified once more, from docs/FORMATS.md alone: no other file of this project is imported here, and the curves are
// another library's. An error that the writer and the first verifier share is not one of this file. It is slow, and meant to be read.

export interface IndependentOptions {
  /** Signs the first line: base64 of an Ed25519 public key. */
  publicKey: string;
  /** An X25519 private key, 32 bytes. */
  auditorSecret?: Uint8Array | undefined;
  /** Lines that must stand in the log. */
  anchors?: readonly string[];
  acceptedRollbacks?: readonly number[];
}

export interface IndependentReport {
  ok: boolean;
  lines: number;
  checkpoints: number;
  signedLines: number;
  sigsChecked: number;
  signingKey: string;
  rollbacks: number;
  /** The first line that contradicts what stands before it; what is wrong is it, or the one before. */
  fault: { file: string; line: number; seq: number; what: string } | null;
}

type Event = Record<string, string | number | boolean | null>;

const MAX_LINE_BYTES = 8192;
const ALWAYS = ['seq', 'time', 'boot', 'prev', 'type', 'actor'];
const SOMETIMES = ['key_id', 'thread_id', 'outcome', 'generation'];
const TYPES =
  'start stop create_dek encrypt decrypt get_wrapped rewrap rotate_kek key_state slot token database import backup restore seal unseal denied checkpoint signing_key recovered';
const WITHOUT_OUTCOME = ['checkpoint', 'signing_key', 'recovered'];
const WITHOUT_GENERATION = ['encrypt', 'decrypt', 'get_wrapped', 'denied'];
const SIGNED = ['checkpoint', 'signing_key'];
/** The order of the group that Ed25519 works in: RFC 8032, section 5.1. */
const ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;

class Wrong extends Error {}

function must(holds: boolean, what: string): void {
  if (!holds) throw new Wrong(what);
}

/** Verifies the files, in this order. Rejects if one cannot be read. */
export async function verifyIndependently(paths: readonly string[], options: IndependentOptions): Promise<IndependentReport> {
  const log = new Log(options);
  let place = { file: '', line: 0, seq: 0 };
  try {
    for (const path of paths) {
      place = { file: path.slice(path.lastIndexOf('/') + 1), line: 0, seq: log.seq };
      for await (const line of linesOf(path)) {
        place = { ...place, line: place.line + 1, seq: log.seq + 1 };
        log.take(line);
      }
    }
    place.seq = log.seq;
    log.end();
    return log.report(null);
  } catch (error) {
    if (error instanceof Wrong) return log.report({ ...place, what: error.message });
    throw error;
  }
}

async function* linesOf(path: string): AsyncGenerator<Buffer> {
  let rest = Buffer.alloc(0);
  for await (const chunk of createReadStream(path)) {
    rest = Buffer.concat([rest, chunk as Buffer]);
    for (let end = rest.indexOf('\n'); end >= 0; end = rest.indexOf('\n')) {
      yield rest.subarray(0, end);
      rest = rest.subarray(end + 1);
    }
    if (rest.length >= MAX_LINE_BYTES) break;
  }
  // Without its line feed it is as wrong as one with another byte behind it.
  if (rest.length > 0) yield Buffer.concat([rest, Buffer.from('\0')]);
}

class Log {
  seq = 0;
  readonly #options: IndependentOptions;
  readonly #anchors: Map<number, string>;
  #previous = '0'.repeat(64);
  #boot = '';
  #storeId = '';
  #signingKey: string;
  #generation = 0;
  #lastCheckpoint = 0;
  #epochKey: Uint8Array | undefined;
  #figures = { checkpoints: 0, signedLines: 0, sigsChecked: 0, rollbacks: 0 };
  #refused = 0;

  constructor(options: IndependentOptions) {
    this.#options = options;
    this.#signingKey = options.publicKey;
    this.#anchors = new Map((options.anchors ?? []).map((line) => [Number(JSON.parse(line).event.seq), line]));
  }

  take(bytes: Buffer): void {
    const { event, eventBytes, sig, ed25519 } = parsed(bytes);
    must(event['seq'] === this.seq + 1, `seq is ${event['seq']}, not ${this.seq + 1}`);
    const anchor = this.#anchors.get(this.seq + 1);
    must(anchor === undefined || bytes.equals(Buffer.from(anchor)), 'another line was anchored');
    must(event['prev'] === this.#previous, 'prev is not the hash of the line before');
    if (event['type'] === 'start') this.#start(event);
    must(event['boot'] === this.#boot, 'boot is not that of the last start');
    if (event['generation'] !== undefined) {
      must(Number(event['generation']) >= this.#generation, 'generation went down');
      this.#generation = Number(event['generation']);
    }
    if (event['type'] === 'recovered') {
      must(isText(event['sha256'], /^[0-9a-f]{64}$/) && typeof event['file'] === 'string', 'what was recovered is not said');
      must(Number.isSafeInteger(event['bytes']) && Number(event['bytes']) >= 0, 'how much was recovered is not said');
    }
    if (SIGNED.includes(String(event['type']))) this.#signed(event, eventBytes, ed25519);
    if (this.#epochKey !== undefined) this.#checkSig(eventBytes, sig);
    this.#previous = createHash('sha256').update(bytes).digest('hex');
    this.seq += 1;
  }

  end(): void {
    must(this.seq > 0, 'there is no line');
    for (const seq of this.#anchors.keys()) must(seq <= this.seq, `line ${seq} was anchored and is cut off`);
  }

  report(fault: IndependentReport['fault']): IndependentReport {
    this.#epochKey?.fill(0);
    const ok = fault === null && this.#refused === 0;
    return { ok, lines: this.seq, ...this.#figures, signingKey: this.#signingKey, fault };
  }

  #start(event: Event): void {
    must(event['boot'] !== this.#boot, 'a start repeats the boot of the one before');
    must(event['format'] === 1, 'format is not 1');
    must(isText(event['store_id'], /^[0-9a-f]{32}$/), 'store_id is no id');
    must(this.seq === 0 || event['store_id'] === this.#storeId, 'store_id is that of another store');
    must(event['signing_key'] === this.#signingKey, 'signing_key is not the key in use');
    must(typeof event['version'] === 'string', 'version is missing');
    must(['grouped', 'each', 'off'].includes(String(event['data_operations'])), 'data_operations is unknown');
    must((event['epoch_key'] === null) === (event['auditor_key'] === null), 'one of epoch_key and auditor_key is null');
    this.#boot = String(event['boot']);
    this.#storeId = String(event['store_id']);
    if (Number(event['generation']) < this.#generation) {
      this.#figures.rollbacks += 1;
      if (!this.#options.acceptedRollbacks?.includes(this.seq + 1)) this.#refused += 1;
      this.#generation = Number(event['generation']);
    }
    this.#epochKey = undefined;
    if (event['epoch_key'] !== null) {
      const sealed = base64(event['epoch_key'], 92);
      base64(event['auditor_key'], 32);
      this.#openEpoch(sealed, String(event['auditor_key']));
    }
  }

  #openEpoch(sealed: Uint8Array, auditorKey: string): void {
    const { auditorSecret } = this.#options;
    if (auditorSecret === undefined) return;
    const own = nacl.scalarMult.base(auditorSecret);
    if (Buffer.from(own).toString('base64') !== auditorKey) return;
    const e = sealed.subarray(0, 32);
    const info = 'progressdb-kms/audit-epoch/v1';
    const shared = nacl.scalarMult(auditorSecret, e);
    const key = Buffer.from(hkdfSync('sha256', shared, Buffer.concat([e, own]), info, 32));
    try {
      const cipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(32, 44), { authTagLength: 16 });
      cipher.setAAD(Buffer.concat([info, this.#storeId, this.#boot].flatMap((text) => [lengthOf(text), Buffer.from(text)])));
      cipher.setAuthTag(sealed.subarray(76));
      this.#epochKey = Buffer.concat([cipher.update(sealed.subarray(44, 76)), cipher.final()]);
    } catch {
      throw new Wrong('epoch_key does not open');
    }
  }

  #signed(event: Event, eventBytes: Buffer, signature: Uint8Array): void {
    const message = Buffer.concat([Buffer.from(`progressdb-kms/audit/v1\0${this.#storeId}\0`), eventBytes]);
    const key = base64(this.#signingKey, 32);
    // tweetnacl takes S + L for S, RFC 8032, section 5.1.7, does not.
    const s = BigInt(`0x${Buffer.from(signature.subarray(32)).reverse().toString('hex')}`);
    must(s < ORDER && nacl.sign.detached.verify(message, signature, key), 'ed25519 is not a signature under the key in use');
    if (event['type'] === 'signing_key') {
      base64(event['public'], 32);
      this.#signingKey = String(event['public']);
    } else {
      must(event['signing_key'] === this.#signingKey, 'signing_key is not the key in use');
      must(event['lines'] === this.seq - this.#lastCheckpoint, 'lines is not the number of lines since the checkpoint before');
      this.#lastCheckpoint = this.seq + 1;
      this.#figures.checkpoints += 1;
    }
    this.#figures.signedLines = this.seq + 1;
  }

  #checkSig(eventBytes: Buffer, sig: Uint8Array): void {
    const key = this.#epochKey as Uint8Array;
    must(createHmac('sha256', key).update(eventBytes).digest().equals(sig), 'sig is wrong');
    this.#epochKey = createHash('sha256').update('evolve').update(key).digest();
    this.#figures.sigsChecked += 1;
  }
}

function lengthOf(text: string): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(Buffer.byteLength(text));
  return length;
}

function base64(text: unknown, bytes: number): Uint8Array {
  const decoded = Buffer.from(String(text), 'base64');
  must(decoded.length === bytes && decoded.toString('base64') === text, `not the base64 of ${bytes} bytes`);
  return decoded;
}

function parsed(bytes: Buffer): { event: Event; eventBytes: Buffer; sig: Uint8Array; ed25519: Uint8Array } {
  must(bytes.length < MAX_LINE_BYTES, 'the line is too long');
  const text = bytes.toString('utf8');
  let line: { event: Event; sig: string; ed25519?: string };
  try {
    line = JSON.parse(text);
  } catch {
    throw new Wrong('the line is no JSON');
  }
  // One form for each line: no member twice, no white space, no other escapes, nothing that is not UTF-8.
  must(JSON.stringify(line) === text && Buffer.from(text).equals(bytes), 'the line is not in the form that is written');
  must(typeof line === 'object' && line !== null && typeof line.event === 'object' && line.event !== null, 'there is no event');
  checkMembers(line.event);
  const isSigned = SIGNED.includes(String(line.event['type']));
  must(Object.keys(line).join() === (isSigned ? 'event,sig,ed25519' : 'event,sig'), 'the members of the line are others');
  const eventBytes = Buffer.from(JSON.stringify(line.event));
  return {
    event: line.event,
    eventBytes,
    sig: base64(line.sig, 32),
    ed25519: isSigned ? base64(line.ed25519, 64) : new Uint8Array(0),
  };
}

function checkMembers(event: Event): void {
  const type = String(event['type']);
  const names = Object.keys(event);
  must(names.slice(0, ALWAYS.length).join() === ALWAYS.join(), 'the first six members are others');
  must(TYPES.split(' ').includes(type), `the type ${type} is unknown`);
  const here = SOMETIMES.filter((name) => names.includes(name));
  must(names.slice(ALWAYS.length, ALWAYS.length + here.length).join() === here.join(), 'members are not in their order');
  for (const name of names) {
    must(/^[a-z][a-z0-9_]{0,63}$/.test(name), 'a member has a name that none has');
    must(typeof event[name] !== 'object' || event[name] === null, `${name} is not one value`);
  }
  const { seq, time, boot, prev, actor, key_id: keyId, thread_id: threadId, outcome, generation } = event;
  must(Number.isSafeInteger(seq) && Number(seq) >= 1, 'seq is no number');
  const at = new Date(String(time));
  must(!Number.isNaN(at.getTime()) && at.toISOString() === time, 'time is no time');
  must(isText(boot, /^[0-9a-f]{16}$/), 'boot is not 16 hex digits');
  must(isText(prev, /^[0-9a-f]{64}$/), 'prev is not 64 hex digits');
  must(isText(actor, /^[A-Za-z0-9._:@/-]{1,64}$/), 'actor is no actor');
  must(keyId === undefined || isText(keyId, /^k_[0-9a-z]{1,64}$/), 'key_id is no key id');
  must(threadId === undefined || isText(threadId, /^[A-Za-z0-9._:@/-]{0,256}$/), 'thread_id is no thread id');
  must((outcome === undefined) === WITHOUT_OUTCOME.includes(type), 'outcome is missing or too much');
  must(outcome === undefined || isText(outcome, /^(ok|[A-Z][A-Z_]{0,63})$/), 'outcome is no outcome');
  must((generation === undefined) === WITHOUT_GENERATION.includes(type), 'generation is missing or too much');
  must(generation === undefined || (Number.isSafeInteger(generation) && Number(generation) >= 1), 'generation is no number');
}

function isText(value: unknown, pattern: RegExp): boolean {
  return typeof value === 'string' && pattern.test(value);
}
