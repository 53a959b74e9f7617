import { bytes, count, spread, time } from '../numbers.js';

const OURS = ['encryptInto', 'encryptSync', 'encryptWithDek', 'encryptMany', 'decryptInto', 'decryptSync', 'decryptWithDek'];

/** With their quartiles only these, for which there are bars: a table of all would be wider than a page. */
const JUDGED = [64, 1024, 65_536];

/** Ours first, then the others as they come. */
function namesOf(sizes, wanted) {
  const names = [...new Set(sizes.flatMap(({ variants }) => Object.keys(variants)))];
  const sorted = [...OURS.filter((name) => names.includes(name)), ...names.filter((name) => !OURS.includes(name))];
  return sorted.filter((name) => sizes.some(({ variants }) => variants[name] && wanted(variants[name])));
}

function labelOf(sizes, name) {
  const { algorithm, byClock } = sizes.find(({ variants }) => variants[name]).variants[name];
  const marks = [algorithm !== 'AES-256-GCM' && algorithm, byClock && 'by the clock'].filter(Boolean);
  return marks.length === 0 ? name : `${name} (${marks.join(', ')})`;
}

function tableOf(sizes, names, caption, floor, cell) {
  const row = (name) => [
    labelOf(sizes, name),
    ...sizes.map(({ size, variants }) => (variants[name] ? cell(variants[name], size) : '–')),
  ];
  const rows = [...(floor ? [['C++ floor', ...sizes.map(floor)]] : []), ...names.map(row)];
  return { caption, head: ['', ...sizes.map(({ size }) => bytes(size))], rows };
}

export function embeddedSection({ aadBytes, sizes }) {
  const encrypts = namesOf(sizes, ({ operation }) => operation !== 'decrypt');
  const decrypts = namesOf(sizes, ({ operation }) => operation === 'decrypt');
  const over = ({ overFloor }) => spread(overFloor);
  const ns = ({ ns: value }) => time(value);
  const judged = sizes.filter(({ size }) => JUDGED.includes(size));
  const shown = judged.length > 0 ? judged : sizes;
  const tables = [
    tableOf(shown, encrypts, 'Encrypting: time over the floor’s (quartiles)', undefined, over),
    tableOf(sizes, encrypts, 'Encrypting: time per message', ({ floorNs }) => time(floorNs), ns),
  ];
  const promises = encrypts.filter((name) =>
    sizes.every(({ variants }) => variants[name]?.byClock && variants[name].cpuNs !== undefined),
  );
  if (promises.length > 0) {
    const cpu = ({ cpuNs }) => time(cpuNs);
    tables.push(
      tableOf(
        sizes,
        promises,
        'Encrypting: CPU time per message of all threads, where the clock was taken above',
        undefined,
        cpu,
      ),
    );
  }
  if (decrypts.length > 0) {
    const floor = sizes.every(({ openFloorNs }) => openFloorNs !== undefined)
      ? ({ openFloorNs }) => time(openFloorNs)
      : undefined;
    tables.push(tableOf(shown, decrypts, 'Decrypting: time over the floor’s (quartiles)', undefined, over));
    tables.push(tableOf(sizes, decrypts, 'Decrypting: time per message', floor, ns));
  }
  return {
    title: `Embedded: one message, AAD ${aadBytes} bytes`,
    part: 'embedded',
    text: [
      'The floor is a C++ loop inside one call, with the OpenSSL of the running node: one kept context, nonces drawn in batches, one reused output buffer. `encryptInto` writes into the caller’s buffer by key handle, `encryptSync` gives a fresh result, `encryptWithDek` a promise, `encryptMany` promises a batch of 64. The other libraries draw a random IV and join IV, ciphertext and tag, as an application would. All but the ones marked use AES-256-GCM.',
      `Synchronous forms by the thread’s CPU time, so that other work on the machine does not count; promises by the clock. ${sizes[0].turns} turns; each block had a block of the floor right before it.`,
    ],
    tables,
  };
}

const KEY_COLUMNS = [
  ['keys', ({ keys }) => count(keys)],
  ['in locked memory', ({ cachedKeys }) => cachedKeys !== undefined && count(cachedKeys)],
  ['encrypt', ({ encryptNs }) => time(encryptNs)],
  ['over the floor', ({ encryptOverFloor }) => encryptOverFloor && spread(encryptOverFloor)],
  ['by key id', ({ encryptByIdNs }) => encryptByIdNs !== undefined && time(encryptByIdNs)],
  ['decrypt', ({ decryptNs }) => time(decryptNs)],
  ['over the floor', ({ decryptOverFloor }) => decryptOverFloor && spread(decryptOverFloor)],
  ['by key id', ({ decryptByIdNs }) => decryptByIdNs !== undefined && time(decryptByIdNs)],
  ['resident memory', ({ residentBytes }) => bytes(residentBytes)],
];

export function keysSection({ size, counts }) {
  const columns = KEY_COLUMNS.filter(([, cell]) => counts.some(cell));
  const rows = counts.map((one) => columns.map(([, cell]) => cell(one) || '–'));
  return {
    title: `Keys: messages of ${bytes(size)} spread over many`,
    part: 'keys',
    text: [
      'Each message goes to a random one of the keys, embedded, by `encryptInto` and `decryptInto` of a resolved key, and by the forms that take a key’s id.',
    ],
    tables: [{ head: columns.map(([name]) => name), rows }],
  };
}
