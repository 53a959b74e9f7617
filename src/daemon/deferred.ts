import { DEFERRED } from '../native.js';
import { FRAME_HEADER_BYTES } from '../wire/frames.js';
import { decodeRequest, keyId, type Request } from '../wire/messages.js';
import { Reader } from '../wire/reader.js';

/** A frame that the native core has left to us, header included, and why: one of `DEFERRED`. */
export type Deferred = [frame: Buffer, why: number];

const reader = new Reader();

/** What stands in it. Throws for what cannot be read. */
export function requestOf([frame, why]: Deferred): Request {
  const body = frame.subarray(FRAME_HEADER_BYTES);
  return why === DEFERRED.cold ? decodeRequest(body) : hotRequest(body);
}

/**
 * What serving a request of ops 2 to 5 again needs: not its data, of which a batch has up to 65,536 items. The native core
 * has read it through.
 */
function hotRequest(body: Buffer): Request {
  reader.open(body, 0, body.length).arrayLength();
  return { id: reader.uint(), op: reader.uint(), args: [reader.string()] };
}

/** The key id of ops 2 to 5. The native core looked it up as it came; from here it may become the name of a file. */
export function keyIdOf(request: Request): string {
  return keyId('key_id', request.args[0]);
}
