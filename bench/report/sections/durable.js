import { count, spread } from '../numbers.js';

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
