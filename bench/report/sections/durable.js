import { bytes, count, spread } from '../numbers.js';

export function auditSection({ turns, inFlight, modes }) {
  const rows = modes.map(({ name, perSecond, serverCpuNs, ofOff }) => [
    name,
    name === 'off' ? '–' : spread(ofOff),
    count(perSecond),
    count(serverCpuNs),
  ]);
  return {
    title: 'Audit: what its lines cost the daemon',
    part: 'audit',
    text: [
      `Encrypts of 1 KiB, ${inFlight} in flight, on daemons that differ in \`audit.data_operations\` only, in turn: \`grouped\` is one line per actor, key, operation and outcome every 100 ms, \`each\` one line per operation, \`strict\` answers when the line is durable. ${turns} turns.`,
    ],
    tables: [{ head: ['data operations', 'of the rate with `off`', 'operations /s', 'CPU ns'], rows }],
  };
}

export function rotationSection({ keys, createdPerSecond, rotatedPerSecond }) {
  return {
    title: `Rotation: ${count(keys)} keys in the files store`,
    part: 'rotation',
    text: [
      `Embedded, with the audit log, on the disk of the run’s temporary directory: ${count(createdPerSecond)} durable creates per second with 64 under way; a rotation that backs up, rewraps and verifies each key moves ${count(rotatedPerSecond)} keys per second.`,
    ],
    tables: [],
  };
}

export function threadsSection({ bodyBytes, messages, ways, long }) {
  const rows = ways.map(({ way, backups, firstPerSecond, perSecond, peakBytes }) => [
    `${way}, ${backups} backups`,
    count(firstPerSecond),
    count(perSecond),
    bytes(peakBytes),
  ]);
  return {
    title: `Threads: ${count(messages)} messages moved to a new key`,
    part: 'threads',
    text: [
      `Bodies of ${bytes(bodyBytes)}, encrypted as a whole, in the LMDB store on the disk of the run’s temporary directory: each is read, opened, sealed under the new key and written durably, and all are looked through once more before the old key is retired. Backups are what a job keeps of each message for seven days unless told otherwise. A process makes three rotations, the first while its code is cold; memory is the most that was anonymous or locked in the application’s process.`,
      `Of a thread of ${count(long.messages)} messages, embedded, with backups: ${count(long.perSecond)} messages per second, ${bytes(long.peakBytes)}.`,
    ],
    tables: [{ head: ['key service', 'first rotation, messages /s', 'median of all', 'memory'], rows }],
  };
}
