import { parse, stringify } from 'lossless-json';
import { KmsError } from '../errors.js';
import type { BodyCipher, Piece } from './body-cipher.js';
import {
  envelopeAad,
  envelopeOf,
  escaped,
  originalEnvelopes,
  readEnvelope,
  readOriginalEnvelope,
  unescaped,
} from './envelope.js';
import type { FieldPolicy, Path } from './field-policy.js';
import { checkDepth, type Json, placeIn, replaceAt, valueAt } from './json.js';
import type { MessageRecord, Sealing } from './message-record.js';
import type { ThreadRecord } from './thread-record.js';

/** The original encrypted a value that held encrypted values, where its policy's paths overlapped. */
const MAX_ROUNDS = 8;

/** How values become text and back: with JSON's own numbers, or with all their digits (lossless-json). */
export interface Notation {
  parse(text: string): Json;
  stringify(value: Json): string;
}

const PLAIN: Notation = { parse: JSON.parse, stringify: JSON.stringify };

/** With all their digits: what the original wrote, or had taken over. */
export const EXACT: Notation = { parse: (text) => parse(text) as Json, stringify: (value) => stringify(value) as string };

/** A body to be sealed: where the policy says, unless told. */
export interface OpenBody {
  messageId: string;
  body: Json;
  at?: readonly Path[];
  isForeign?: boolean;
}

export interface SealedBody {
  body: Json;
  sealing: Sealing;
}

/** A message whose values are being opened. `body` is the reader's own. */
interface Opening {
  record: MessageRecord;
  body: Json;
  places: Path[];
  fault: KmsError | undefined;
}

/** Seals and opens bodies, of many messages with few requests. */
export class Bodies {
  readonly #cipher: BodyCipher;

  constructor(cipher: BodyCipher) {
    this.#cipher = cipher;
  }

  /** Under the thread's present key. CONFLICT for a thread without one, unless there is no key service. The bodies given are changed. */
  async seal(
    { threadId, keys }: ThreadRecord,
    policy: FieldPolicy,
    bodies: readonly OpenBody[],
    { stringify }: Notation = PLAIN,
  ): Promise<SealedBody[]> {
    if (keys === undefined) {
      // Whoever has a key service believes that what is written is encrypted.
      if (this.#cipher.hasService) throw new KmsError('CONFLICT', `thread ${threadId} has no key: encrypt-existing gives it one`);
      return bodies.map(({ body, isForeign = false }) => ({
        body: escaped(body, new Set()),
        sealing: { isForeign, at: [], policy: [] },
      }));
    }
    const { keyId } = keys;
    const places = bodies.map(({ body, at }) => at ?? policy.select(body));
    const pieces = bodies.flatMap(({ messageId, body }, i) =>
      (places[i] as readonly Path[]).map((path) => ({
        keyId,
        data: Buffer.from(stringify(valueAt(body, path)), 'utf8'),
        aad: envelopeAad(threadId, messageId, path),
      })),
    );
    const sealed = (await this.#cipher.seal(pieces)).values();
    return bodies.map(({ body, isForeign = false }, i) => {
      const at = places[i] as readonly Path[];
      const envelopes = new Set<Json>();
      let stored = body;
      for (const path of at) {
        const envelope = envelopeOf({ keyId, ciphertext: sealed.next().value as Uint8Array });
        envelopes.add(envelope);
        stored = replaceAt(stored, path, envelope);
      }
      return { body: escaped(stored, envelopes), sealing: { isForeign, at, policy: policy.paths } };
    });
  }

  /** One body per message, in order, or why it cannot be read. Rejects when the key service cannot be asked. */
  async open(
    thread: ThreadRecord,
    records: readonly MessageRecord[],
    { parse }: Notation = PLAIN,
  ): Promise<Array<Json | KmsError>> {
    const openings = records.map((record) => begin(thread, record));
    let left = openings.filter(({ places }) => places.length > 0);
    for (let round = 0; left.length > 0; round += 1) {
      await this.#round(thread, left, parse);
      for (const opening of left) nextPlaces(opening);
      left = left.filter(({ places }) => places.length > 0);
      if (round < MAX_ROUNDS) continue;
      for (const opening of left) opening.fault = damaged(opening.record);
      break;
    }
    return openings.map(({ body, fault }) => fault ?? body);
  }

  async #round(thread: ThreadRecord, openings: readonly Opening[], parse: Notation['parse']): Promise<void> {
    const jobs: Array<{ opening: Opening; path: Path; piece: Piece }> = [];
    for (const opening of openings) {
      for (const path of opening.places) {
        const piece = pieceAt(thread, opening, path);
        if (piece === undefined) opening.fault ??= new KmsError('AUTHENTICATION_FAILED');
        else jobs.push({ opening, path, piece });
      }
    }
    const opened = await this.#cipher.open(jobs.map(({ piece }) => piece));
    jobs.forEach(({ opening, path }, i) => {
      const result = opened[i] as Uint8Array | KmsError;
      if (result instanceof KmsError) opening.fault ??= result;
      else put(opening, path, result, parse);
    });
  }
}

function damaged({ messageId }: MessageRecord): KmsError {
  return new KmsError('STORE_UNAVAILABLE', `message ${messageId} is damaged`);
}

function begin({ keys, isMigrated, wasPlain }: ThreadRecord, record: MessageRecord): Opening {
  const { body, sealing } = record;
  if (sealing !== undefined) return { record, body: unescaped(body), places: [...sealing.at].reverse(), fault: undefined };
  // In a thread whose messages all bear our marks, one without them was put there by somebody else.
  const fault = isMigrated ? new KmsError('AUTHENTICATION_FAILED') : undefined;
  const opening: Opening = { record, body, places: [], fault };
  if (!isMigrated && !wasPlain && keys !== undefined) look(opening, [[]]);
  return opening;
}

/** Finds the original's envelopes in what stands at `paths`. */
function look(opening: Opening, paths: readonly Path[]): void {
  try {
    for (const path of paths) checkDepth(valueAt(opening.body, path));
    opening.places = paths.flatMap((path) => originalEnvelopes(valueAt(opening.body, path), path));
  } catch {
    opening.places = [];
    opening.fault ??= damaged(opening.record);
  }
}

function pieceAt({ threadId, keys }: ThreadRecord, { record, body }: Opening, path: Path): Piece | undefined {
  if (record.sealing === undefined) {
    const data = readOriginalEnvelope(valueAt(body, path));
    const keyId = keys?.all[0];
    return data === undefined || keyId === undefined ? undefined : { keyId, data, aad: new Uint8Array(0) };
  }
  const place = placeIn(body, path);
  const envelope = place === undefined ? undefined : readEnvelope(place);
  // A key of another thread opens nothing here, whoever wrote its name into the store.
  if (envelope === undefined || !keys?.all.includes(envelope.keyId)) return undefined;
  return { keyId: envelope.keyId, data: envelope.ciphertext, aad: envelopeAad(threadId, record.messageId, path) };
}

function put(opening: Opening, path: Path, plaintext: Uint8Array, parse: Notation['parse']): void {
  try {
    opening.body = replaceAt(opening.body, path, parse(Buffer.from(plaintext).toString('utf8')));
  } catch {
    opening.fault ??= damaged(opening.record);
  }
}

/** What was opened may hold more of the original's envelopes; never of ours. */
function nextPlaces(opening: Opening): void {
  const isOriginal = opening.record.sealing === undefined && opening.fault === undefined && opening.places.length > 0;
  if (isOriginal) look(opening, opening.places);
  else opening.places = [];
}
