import { debuglog } from 'node:util';
import { KmsError } from '../errors.js';

/** One request as it is logged: never what it carried. */
export interface RequestFields {
  /** Over HTTP what the request carries as `X-Request-Id`; else the number of the request. */
  id: string;
  operation: string;
  /** Of the request: its data and AAD, over HTTP its body. */
  bytes: number;
  ms: number;
  /** `ok`, or the code of the error. */
  outcome: string;
}

/** What takes the lines; loggers such as pino's are one. */
export interface Logger {
  debug(fields: RequestFields, message: string): void;
}

const debug = debuglog('progressdb-kms');

/** Undefined when nobody listens: neither a logger nor NODE_DEBUG=progressdb-kms. */
export function journalFor(logger: Logger | undefined): Journal | undefined {
  if (logger === undefined) return debug.enabled ? new Journal(toStderr) : undefined;
  if (typeof logger !== 'object' || logger === null || typeof logger.debug !== 'function') {
    throw new KmsError('INVALID_ARGUMENT', 'logger: an object with a function debug was expected');
  }
  return new Journal((fields) => {
    logger.debug(fields, 'request to the key service');
    if (debug.enabled) toStderr(fields);
  });
}

function toStderr({ id, operation, bytes, ms, outcome }: RequestFields): void {
  debug('%s %s %d bytes %s ms %s', id, operation, bytes, ms.toFixed(3), outcome);
}

/** Writes one line for each request, once it has its outcome. */
export class Journal {
  constructor(private readonly write: (fields: RequestFields) => void) {}

  /** What `ask` gives or throws, unchanged. */
  follow<T>(id: string, operation: string, bytes: number, ask: () => Promise<T>): Promise<T> {
    const start = performance.now();
    const log = (outcome: string) => this.log({ id, operation, bytes, ms: performance.now() - start, outcome });
    const failed = (error: unknown) => log(error instanceof KmsError ? error.code : 'INTERNAL');
    try {
      const answer = ask();
      answer.then(() => log('ok'), failed);
      return answer;
    } catch (error) {
      failed(error);
      throw error;
    }
  }

  private log(fields: RequestFields): void {
    try {
      this.write(fields);
    } catch {
      // A logger's failure is not the request's.
    }
  }
}
