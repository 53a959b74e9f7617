import type { CallerFiles } from '../client/caller-files.js';
import type { Percentiles } from './latencies.js';
import type { MessageOperation } from './sealer.js';

/** Where a generator sends its requests: to a key service by its address, or to what one would write without one. */
export type Target =
  | { kind: 'kms'; endpoint: string; caller: CallerFiles; serverUids: readonly number[] }
  | { kind: 'plain'; socket: string };

/** How requests are sent: with a rate the loop is open. */
export interface Pace {
  seconds: number;
  /** Under way at once. */
  lanes: number;
  rate?: number;
  timedEach: number;
}

export type GeneratorQuestion =
  | { do: 'connect'; target: Target; connections: number; sockets: number }
  | { do: 'make-keys'; count: number; file: string }
  | { do: 'read-keys'; file: string }
  | { do: 'add-keys'; count: number }
  | { do: 'number-keys'; count: number }
  | { do: 'prepare'; operation: MessageOperation; size: number }
  | { do: 'warm-up' | 'messages'; operation: MessageOperation; pace: Pace }
  | { do: 'create'; pace: Pace }
  | { do: 'rotate' };

export type Call =
  | 'encryptSync'
  | 'encryptInto'
  | 'encryptWithDek'
  | 'decryptSync'
  | 'decryptInto'
  | 'decryptWithDek'
  | 'node:crypto';

export type EmbeddedQuestion =
  | { do: 'open'; store: 'memory' | 'files'; directory: string; keys: number; masterKeyFile: string }
  | { do: 'make-keys'; count: number }
  | { do: 'prepare'; operation: MessageOperation; size: number }
  | { do: 'warm-up' | 'messages'; call: Call; seconds: number }
  | { do: 'create'; pace: Pace }
  | { do: 'rotate' };

/** What one block came to. */
export interface Block {
  operations: number;
  seconds: number;
  /** Of this block, and of all blocks of this kind since the last `prepare`. */
  latency: Percentiles;
  pooled: Percentiles;
  /** Of all blocks, how long after it was due a request was sent; of none in a closed loop. */
  delays: Percentiles;
  /** Of the process that asks; embedded, that is the whole cost. */
  cpuNs: number;
  /** Requests that were due and not sent; 0 in a closed loop. */
  unsent: number;
  /** Answers that were opened and compared. */
  verified: number;
}

/** All keys of the store moved to a new KEK. */
export interface Rotated {
  keys: number;
  seconds: number;
}
