// What is compared, under the names and in the colours that every plot and table gives it.

/** Few hues: blue is ours, grey does no work of ours, orange is what an application would use today. */
export const PALETTE = {
  ours: '#0b5cad',
  oursToo: '#4c96d7',
  floor: '#66717f',
  peer: '#c2480c',
  peerToo: '#8a5a9e',
  peers: '#8c7553',
};

const SERVERS = {
  daemon: { label: 'progressdb-kms', colour: PALETTE.ours },
  echo: { label: 'C echo', colour: PALETTE.floor, dash: [5, 3] },
  'node:http': { label: 'node:http', colour: PALETTE.peer },
  fastify: { label: 'Fastify', colour: PALETTE.peerToo },
  'daemon, node client': { label: 'progressdb-kms, Node client', colour: PALETTE.ours },
  'daemon, spin': { label: 'progressdb-kms, spin', colour: PALETTE.ours },
};

const VARIANTS = {
  floor: { label: 'C++ floor', colour: PALETTE.floor, dash: [5, 3] },
  encryptInto: { label: 'encryptInto', colour: PALETTE.ours },
  encryptSync: { label: 'encryptSync', colour: PALETTE.oursToo },
  'node:crypto': { label: 'node:crypto', colour: PALETTE.peer },
};

export const serverOf = (name) => SERVERS[name] ?? { label: name, colour: PALETTE.peers };

/** Peers other than node:crypto share one colour: a plot tells them apart by the name at their line. */
export const variantOf = (name) => VARIANTS[name] ?? { label: name, colour: PALETTE.peers };

export const encrypting = (variants) => Object.entries(variants).filter(([, { operation }]) => operation !== 'decrypt');

export const awsOf = (variants) => variants['AWS Encryption SDK'];

/** What does not have the product's form, but stands for another library, in the order of its speed at the first size. */
export function peersOf(variants) {
  const names = encrypting(variants).filter(([name]) => !name.startsWith('encrypt'));
  return names.sort(([, a], [, b]) => a.ns - b.ns).map(([name]) => name);
}
