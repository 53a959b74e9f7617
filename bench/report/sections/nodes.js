import { bytes, count, spread, time } from '../numbers.js';

export function nodesSection(nodes) {
  const head = ['', ...nodes.map(({ node, openssl }) => `Node ${node.replace(/^v/, '')} (OpenSSL ${openssl})`)];
  const sizes = [...new Set(nodes.flatMap(({ embedded }) => embedded.map(({ size }) => size)))].sort((a, b) => a - b);
  const at = (one, size, field) => one.embedded.find((entry) => entry.size === size)?.[field];
  const embedded = (name, cell) => sizes.map((size) => [`${name}, ${bytes(size)}`, ...nodes.map((one) => cell(one, size))]);
  const over = (field) => (one, size) => spread(at(one, size, field));
  const ns = (field) => (one, size) => (at(one, size, field) === undefined ? '–' : time(at(one, size, field)));
  const served = (label, field) => [
    [`daemon, ${label}`, ...nodes.map((one) => (one[field] ? `${count(one[field].perSecond)}/s` : '–'))],
    [`its CPU per operation`, ...nodes.map((one) => (one[field] ? `${count(one[field].serverCpuNs)} ns` : '–'))],
  ];
  return {
    title: 'Versions of Node',
    part: 'nodes',
    text: [
      'The same build of the product on each version, the versions in turn. Each has an OpenSSL of its own, and a floor measured with it.',
    ],
    tables: [
      {
        caption: 'The daemon, 1 KiB encrypts',
        head,
        rows: [...served('1 x 256 in flight', 'at256'), ...served('8 x 64 in flight', 'at8x64')],
      },
      {
        caption: 'Embedded: time per message',
        head,
        rows: [...embedded('C++ floor', ns('floorNs')), ...embedded('encryptInto', ns('encryptIntoNs'))],
      },
      {
        caption: 'Embedded: time over the floor’s (quartiles)',
        head,
        rows: [
          ...embedded('encryptInto', over('encryptInto')),
          ...embedded('encryptSync', over('encryptSync')),
          ...embedded('node:crypto', over('nodeCrypto')),
        ],
      },
    ],
  };
}
