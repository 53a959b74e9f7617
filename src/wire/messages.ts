import { Packr } from 'msgpackr';
import { ERROR_TABLE, errorCodeOfWire, KmsError } from '../errors.js';
import { MAX_FRAME_BYTES } from '../limits.js';
import type { ItemResult } from '../provider.js';
import { FRAME_HEADER_BYTES, MAX_REQUEST_ID, OK } from './frames.js';
import { MalformedMessage, Reader } from './reader.js';

export * from './arguments.js';
export * from './backup-maps.js';
export * from './maps.js';
export * from './rotation-maps.js';

/** What a request without a readable operation number has as `op`: `parseArguments` refuses it by name. */
export const NO_OP = -1;
/** Bounds what a peer is told of an error. */
const MAX_MESSAGE_CHARACTERS = 512;

export interface Request {
  id: number;
  op: number;
  /** Not yet checked; binaries are views of the body. */
  args: unknown[];
}

export interface Answer {
  id: number;
  /** Set on a refusal; then there are no results. */
  error: KmsError | undefined;
  /** Not yet checked; binaries are views of the body. */
  results: unknown[];
}

const packr = new Packr({ useRecords: false, variableMapSize: true, encodeUndefinedAsNil: true });
const reader = new Reader();

function frame(message: unknown[]): Buffer {
  const body = packr.pack(message);
  if (body.length > MAX_FRAME_BYTES) throw new KmsError('TOO_LARGE', `a message of ${body.length} bytes`);
  const whole = Buffer.allocUnsafe(FRAME_HEADER_BYTES + body.length);
  whole.writeUInt32BE(body.length, 0);
  whole.set(body, FRAME_HEADER_BYTES);
  // What was packed may be somebody's plaintext, and the packer keeps its buffer.
  body.fill(0);
  return whole;
}

/** `[id, 0, data]` in encodings of fixed width, written once: the packer would leave copies where its buffer grows. */
function binaryAnswer(id: number, data: Uint8Array): Buffer {
  const head = 12;
  const whole = Buffer.allocUnsafeSlow(FRAME_HEADER_BYTES + head + data.length);
  if (head + data.length > MAX_FRAME_BYTES) throw new KmsError('TOO_LARGE', `a message of ${head + data.length} bytes`);
  whole.writeUInt32BE(head + data.length, 0);
  whole[4] = 0x93;
  whole[5] = 0xce;
  whole.writeUInt32BE(id, 6);
  whole[10] = OK;
  whole[11] = 0xc6;
  whole.writeUInt32BE(data.length, 12);
  whole.set(data, 16);
  return whole;
}

/** A whole frame, length included. Throws TOO_LARGE. */
export function encodeRequest(id: number, op: number, args: readonly unknown[]): Buffer {
  return frame([id, op, ...args]);
}

/** A whole frame, length included. Throws TOO_LARGE. */
export function encodeAnswer(id: number, results: readonly unknown[]): Buffer {
  const only = results[0];
  if (results.length === 1 && only instanceof Uint8Array) return binaryAnswer(id, only);
  return frame([id, OK, ...results]);
}

/** A whole frame, length included. `id` is `NO_REQUEST` where none could be read. */
export function encodeError(id: number, error: KmsError): Buffer {
  return frame([id, ERROR_TABLE[error.code].wire, error.message.slice(0, MAX_MESSAGE_CHARACTERS)]);
}

/**
 * The message of one frame's body. Throws INVALID_ARGUMENT for what has no readable id or is not one MessagePack value: the
 * stream cannot be trusted after it. Everything else that may be wrong with a request is `parseArguments`'s to refuse.
 */
export function decodeRequest(body: Uint8Array): Request {
  try {
    const { id, rest } = decode(body);
    const op = rest[0];
    return { id, op: typeof op === 'number' && Number.isInteger(op) && op >= 0 ? op : NO_OP, args: rest.slice(1) };
  } catch (error) {
    if (error instanceof MalformedMessage) throw new KmsError('INVALID_ARGUMENT', `the frame: ${error.message}`);
    throw error;
  }
}

/** The answer in one frame's body. Throws MalformedMessage. */
export function decodeAnswer(body: Uint8Array): Answer {
  const { id, rest } = decode(body);
  const code = rest[0];
  if (code === OK) return { id, error: undefined, results: rest.slice(1) };
  const message = rest[1];
  if (typeof code !== 'number' || typeof message !== 'string' || rest.length !== 2) {
    throw new MalformedMessage('an answer that is neither results nor an error');
  }
  return { id, error: errorOfWire(code, message), results: [] };
}

function decode(body: Uint8Array): { id: number; rest: unknown[] } {
  reader.open(Buffer.from(body.buffer, body.byteOffset, body.byteLength), 0, body.byteLength);
  const length = reader.arrayLength();
  if (length < 1) throw new MalformedMessage('an empty array');
  const id = reader.uint();
  if (id > MAX_REQUEST_ID) throw new MalformedMessage('an id of more than 32 bits');
  const rest: unknown[] = [];
  for (let index = 1; index < length; index++) rest.push(reader.value(1));
  reader.finish();
  return { id, rest };
}

/** The error a peer's code and message stand for. Its message is the table's; what the peer adds to it becomes the detail. */
export function errorOfWire(wire: number, message: string): KmsError {
  const code = errorCodeOfWire(wire);
  const text = ERROR_TABLE[code].message;
  if (message === text || message === '') return new KmsError(code);
  const detail = message.startsWith(`${text}: `) ? message.slice(text.length + 2) : message;
  return new KmsError(code, detail.slice(0, MAX_MESSAGE_CHARACTERS));
}

/** The result of ops 4 and 5: a binary or `[code, message]` per item. */
export function batchOfItems(items: readonly ItemResult[]): unknown[] {
  return items.map((item) => (item instanceof KmsError ? [ERROR_TABLE[item.code].wire, item.message] : item));
}
