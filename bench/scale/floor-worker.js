// The floor of durable creates: lmdb-js alone, opened as the product opens it, puts as many random names at once, and awaits that
// they are on the disk. Argument: JSON of {path, inFlight, recordBytes}. `{fill}` makes so many more.
import { randomBytes } from 'node:crypto';
import { open } from 'lmdb';
import { answerMessages } from '../processes.js';

const { path, inFlight, recordBytes } = JSON.parse(process.argv[2]);
const db = open(path, {
  noSubdir: true,
  encoding: 'binary',
  keyEncoder: {
    writeKey: (key, target, start) => start + target.write(key, start, 'latin1'),
    readKey: (source, start, end) => source.toString('latin1', start, end),
  },
  overlappingSync: false,
  noMemInit: false,
});

async function fill(count) {
  const names = Array.from({ length: count }, () => `r/k_${randomBytes(16).toString('hex')}`);
  const record = randomBytes(recordBytes);
  const cpu = process.cpuUsage();
  const begun = performance.now();
  for (let at = 0; at < count; at += inFlight) {
    await db.childTransaction(() => {
      for (const name of names.slice(at, at + inFlight)) db.putSync(name, record);
    });
  }
  const seconds = (performance.now() - begun) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return { keys: count, seconds, cpuSeconds: (user + system) / 1e6 };
}

answerMessages(async (message) => {
  if (message.fill) return fill(message.fill);
  await db.close();
  return {};
});
