import { createHash } from 'node:crypto';
import { asKmsError, KmsError } from '../../errors.js';
import { MAX_STORED_VALUE_BYTES } from '../../limits.js';
import { type Bodies, EXACT, type SealedBody } from '../bodies.js';
import type { BodyCipher, Piece } from '../body-cipher.js';
import { envelopeAad, envelopeOf, escaped, keyOfEnvelope, originalEnvelopes, readEnvelope, unescaped } from '../envelope.js';
import type { FieldPolicy, Path } from '../field-policy.js';
import { type Json, placeIn, replaceAt } from '../json.js';
import { changedMessage, exactBody, isForeign, type MessageRecord } from '../message-record.js';
import type { ThreadRecord } from '../thread-record.js';
import type { Stored } from './entries.js';
import type { JobKind } from './job.js';

/** The place of a whole body. */
const WHOLE: readonly Path[] = [[]];

/** An entry as it is to be. */
export interface Moved {
  entry: Stored & { record: MessageRecord };
  value: Uint8Array;
  /** The places that are sealed in it, and the policy that chose them. */
  at: readonly Path[];
  policy: readonly string[];
}

/** An entry that cannot be rewritten, and why. */
export interface Unmoved {
  entry: Stored;
  reason: string;
}

export interface Rewritten {
  moved: Moved[];
  unmoved: Unmoved[];
}

type Readable = Stored & { record: MessageRecord };

/** With the body as its text has it, digit for digit where the original wrote it. */
type Exact = Readable & { exact: Json };

/** undefined for what is no message, and for a text that is read as JSON, and not as what JSON should be: a name twice in one object. */
function exactly({ key, value, record, fault }: Stored): Exact | undefined {
  if (record === undefined) return undefined;
  try {
    return { key, value, record, fault, exact: isForeign(record) ? exactBody(value) : record.body };
  } catch {
    return undefined;
  }
}

/** Nobody reads the body of a message that was deleted: it goes, in whatever form it is there. */
function withoutBody(entry: Exact): Moved {
  const sealing = { isForeign: true, at: [], policy: [] };
  return { entry, value: changedMessage(entry.value, { ...entry.record, body: null, sealing }), at: [], policy: [] };
}

/**
 * Rewrites messages under the thread's present key, many with few requests to the key service. What is sealed in our format is
 * opened and sealed as the bytes it is, at the places it has; what the original wrote is taken over, digit for digit, and sealed
 * as the field policy says and wherever it was sealed before: never less than it was.
 */
export class Mover {
  readonly #bodies: Bodies;
  readonly #cipher: BodyCipher;
  readonly #policy: FieldPolicy;

  constructor(bodies: Bodies, cipher: BodyCipher, policy: FieldPolicy) {
    this.#bodies = bodies;
    this.#cipher = cipher;
    this.#policy = policy;
  }

  /** Whether an entry has to be rewritten, or cannot be read and is to be told of. */
  needs(kind: JobKind, thread: ThreadRecord, { record }: Stored): boolean {
    if (record === undefined) return true;
    // The original marks a deleted message, and keeps its body.
    if (record.isDeleted) return record.sealing === undefined && record.body !== null;
    if (record.sealing === undefined) return true;
    const { at, policy } = record.sealing;
    if (kind === 'encrypt-existing' && policy.join('\n') !== this.#policy.paths.join('\n')) return true;
    const body = at.length === 0 ? null : unescaped(record.body);
    return at.some((path) => {
      const place = placeIn(body, path);
      return place === undefined || keyOfEnvelope(place) !== thread.keys?.keyId;
    });
  }

  /** Whether the text of a message was sealed as the field policy says today. */
  isOfPolicy(value: Uint8Array): boolean {
    const { enc } = JSON.parse(Buffer.from(value).toString('utf8')) as { enc?: { policy?: unknown } };
    return Array.isArray(enc?.policy) && enc.policy.join('\n') === this.#policy.paths.join('\n');
  }

  /** Rejects when the key service cannot be asked. */
  async rewrite(kind: JobKind, thread: ThreadRecord, entries: readonly Stored[]): Promise<Rewritten> {
    const unmoved: Unmoved[] = [];
    const gone: Moved[] = [];
    const asTheyAre: Exact[] = [];
    const anew: Exact[] = [];
    for (const entry of entries) {
      const exact = exactly(entry);
      if (exact === undefined) unmoved.push({ entry, reason: `damaged: ${entry.fault ?? 'a name stands twice in one object'}` });
      else if (exact.record.isDeleted) gone.push(withoutBody(exact));
      else if (exact.record.sealing === undefined || kind === 'encrypt-existing') anew.push(exact);
      else asTheyAre.push(exact);
    }
    const moved = [...(await this.#moved(thread, asTheyAre, unmoved)), ...(await this.#sealedAnew(thread, anew, unmoved))];
    const large = moved.filter(({ value }) => value.length > MAX_STORED_VALUE_BYTES);
    const fitting = large.length === 0 ? moved : moved.filter((one) => !large.includes(one));
    for (const { entry, policy } of large) fitting.push(...(await this.#sealedAsWhole(thread, entry, policy, unmoved)));
    return { moved: [...gone, ...fitting], unmoved };
  }

  /** Opens entries, and tells of those that do not open. */
  async probe(thread: ThreadRecord, entries: readonly Stored[]): Promise<Unmoved[]> {
    const unmoved: Unmoved[] = [];
    const readable = entries.filter((entry): entry is Readable => entry.record !== undefined);
    for (const entry of entries) if (entry.record === undefined) unmoved.push({ entry, reason: `damaged: ${entry.fault}` });
    const bodies = await this.#bodies.open(
      thread,
      readable.map(({ record }) => record),
    );
    bodies.forEach((body, i) => {
      if (body instanceof KmsError) unmoved.push({ entry: readable[i] as Readable, reason: body.message });
    });
    return unmoved;
  }

  async #moved(thread: ThreadRecord, entries: readonly Exact[], unmoved: Unmoved[]): Promise<Moved[]> {
    const keyId = thread.keys?.keyId as string;
    const bodies = entries.map(({ exact }) => unescaped(exact));
    const all = entries.map(({ record }, i) => piecesOf(thread, record, bodies[i] as Json));
    const opened = (await this.#cipher.open(all.flatMap((pieces) => pieces ?? []))).values();
    const whole: Array<{ entry: Readable; body: Json; pieces: Piece[] }> = [];
    entries.forEach((entry, i) => {
      const pieces = all[i];
      const results = pieces?.map(() => opened.next().value as Uint8Array | KmsError);
      const fault = results?.find((result) => result instanceof KmsError);
      if (pieces === undefined || results === undefined)
        unmoved.push({ entry, reason: new KmsError('AUTHENTICATION_FAILED').message });
      else if (fault instanceof KmsError) unmoved.push({ entry, reason: fault.message });
      else {
        const again = pieces.map(({ aad }, nth) => ({ keyId, data: results[nth] as Uint8Array, aad }));
        whole.push({ entry, body: bodies[i] as Json, pieces: again });
      }
    });
    const sealed = (await this.#cipher.seal(whole.flatMap(({ pieces }) => pieces))).values();
    return whole.map(({ entry, body, pieces }) => {
      const envelopes = pieces.map(() => envelopeOf({ keyId, ciphertext: sealed.next().value as Uint8Array }));
      // The plaintext has done its service; the garbage collector would have it lie about.
      for (const { data } of pieces) data.fill(0);
      const { at = [], policy = [] } = entry.record.sealing ?? {};
      return { entry, value: withEnvelopes(entry, body, envelopes), at, policy };
    });
  }

  async #sealedAnew(thread: ThreadRecord, entries: readonly Exact[], unmoved: Unmoved[]): Promise<Moved[]> {
    const records = entries.map(({ record, exact }) => ({ ...record, body: exact }));
    // Before it is opened: opening puts values where the envelopes were.
    const before = records.map(({ sealing, body }) => sealing?.at ?? (thread.wasPlain ? [] : originalEnvelopes(body)));
    const opened = await this.#bodies.open(thread, records, EXACT);
    const whole: Array<{ entry: Readable; messageId: string; body: Json; at: readonly Path[]; isForeign: boolean }> = [];
    entries.forEach((entry, i) => {
      const body = opened[i] as Json | KmsError;
      if (body instanceof KmsError) unmoved.push({ entry, reason: body.message });
      else {
        const { record } = entry;
        whole.push({
          entry,
          messageId: record.messageId,
          body,
          at: this.#places(body, before[i] as readonly Path[]),
          isForeign: isForeign(record),
        });
      }
    });
    const sealed = await this.#bodies.seal(thread, this.#policy, whole, EXACT);
    return whole.map(({ entry }, i) => {
      const { body, sealing } = sealed[i] as SealedBody;
      return { entry, value: changedMessage(entry.value, { ...entry.record, body, sealing }), ...sealing };
    });
  }

  /** Where the policy asks for more than a message can have, all of it. */
  #places(body: Json, before: readonly Path[]): readonly Path[] {
    try {
      return this.#policy.select(body, before);
    } catch (error) {
      if (asKmsError(error).code === 'TOO_LARGE') return WHOLE;
      throw error;
    }
  }

  /**
   * What would be too long for the store with an envelope for each place, or a key of a longer name, fits as a whole: no message
   * that was taken holds its thread up. Only what another wrote may be longer, and is told of.
   */
  async #sealedAsWhole(thread: ThreadRecord, entry: Readable, policy: readonly string[], unmoved: Unmoved[]): Promise<Moved[]> {
    const { record } = entry;
    // What it was parsed to first has been opened, and sealed, in its place.
    const exact = isForeign(record) ? exactBody(entry.value) : record.body;
    const [body] = await this.#bodies.open(thread, [{ ...record, body: exact }], EXACT);
    if (body === undefined || body instanceof KmsError) {
      unmoved.push({ entry, reason: asKmsError(body).message });
      return [];
    }
    const whole = { messageId: record.messageId, body, at: WHOLE, isForeign: isForeign(record) };
    const [sealed] = await this.#bodies.seal(thread, this.#policy, [whole], EXACT);
    const { body: stored, sealing } = sealed as SealedBody;
    const value = changedMessage(entry.value, { ...record, body: stored, sealing: { ...sealing, policy } });
    if (value.length <= MAX_STORED_VALUE_BYTES) return [{ entry, value, at: WHOLE, policy }];
    unmoved.push({ entry, reason: `encrypted, it is more than ${MAX_STORED_VALUE_BYTES} bytes` });
    return [];
  }
}

function envelopeAt(body: Json, path: Path) {
  const place = placeIn(body, path);
  return place === undefined ? undefined : readEnvelope(place);
}

/** What to open of a message of ours; undefined if it is not what its marks say, or under a key that is not the thread's. */
function piecesOf({ threadId, keys }: ThreadRecord, { messageId, sealing }: MessageRecord, body: Json): Piece[] | undefined {
  const pieces = (sealing?.at ?? []).map((path) => {
    const envelope = envelopeAt(body, path);
    if (envelope === undefined || !keys?.all.includes(envelope.keyId)) return undefined;
    return { keyId: envelope.keyId, data: envelope.ciphertext, aad: envelopeAad(threadId, messageId, path) };
  });
  return pieces.every((piece) => piece !== undefined) ? pieces : undefined;
}

function withEnvelopes({ record, value }: Readable, body: Json, envelopes: readonly Json[]): Uint8Array {
  let stored = body;
  record.sealing?.at.forEach((path, i) => {
    stored = replaceAt(stored, path, envelopes[i] as Json);
  });
  return changedMessage(value, { ...record, body: escaped(stored, new Set(envelopes)) });
}

/** Tells whether an entry is still as a job left it. */
export function digestOf(value: Uint8Array): string {
  return createHash('sha256').update(value).digest('base64');
}
