import test from 'ava';
import { Ground } from './verified.js';
import { type Members, newPair, type Pair, secretOf, type Written, WrittenLog } from './written.js';

/**
 * Each rule by itself: logs in which everything is chained and signed as it should be, by somebody who can do both, and one thing
 * is not as the format says.
 */
interface Case {
  what: string;
  /** Writes the wrong line as the last one; what it does before is right. */
  forge(log: WrittenLog): void;
  says: RegExp;
  /** Nothing of it shows without the auditor's key. */
  isSecret?: true;
}

const auditor = newPair('x25519');
const ground = new Ground();
test.after.always(() => ground.clear());

const without = (event: Members, ...names: string[]) =>
  Object.fromEntries(Object.entries(event).filter(([name]) => !names.includes(name)));
const renamed = (event: Members, from: string, to: string) =>
  Object.fromEntries(Object.entries(event).map(([name, value]) => [name === from ? to : name, value]));

function forging(what: string, says: RegExp, written: Partial<Written>): Case {
  return { what, says, forge: (log) => log.write({ type: 'seal', ...written }) };
}

function setting(name: string, value: Members[string], says: RegExp, type = 'seal'): Case {
  const forge = (event: Members) => ({ ...event, [name]: value });
  return { ...forging('', says, { type, forge }), what: `${name} of ${type} is ${JSON.stringify(value)}` };
}

function atStart(what: string, says: RegExp, change: (event: Members, log: WrittenLog) => Members): Case {
  return {
    what: `start: ${what}`,
    says,
    forge(log) {
      log.start((event) => change(event, log));
      log.lines.splice(-2);
    },
  };
}

function replacing(what: string, says: RegExp, from: string | RegExp, to: string, type = 'seal'): Case {
  const own = type === 'seal' ? { reason: 'panic é', n: 5 } : {};
  return forging(what, says, { type, own, forge: (event) => JSON.stringify(event).replace(from, to) });
}

const stranger: Pair = newPair('ed25519');

const CASES: Case[] = [
  setting('seq', 6, /`seq`/),
  setting('seq', '4', /`seq`/),
  setting('time', '2026-13-31T12:00:00.000Z', /`time`/),
  setting('time', '2026-02-29T12:00:00.000Z', /`time`/),
  setting('time', '2100-02-29T12:00:00.000Z', /`time`/),
  setting('time', '2026-04-31T12:00:00.000Z', /`time`/),
  setting('time', '2026-01-31T24:00:00.000Z', /`time`/),
  setting('time', '2026-01-31 12:00:00.000Z', /`time`/),
  setting('boot', '0123456789abcdef', /`boot`/),
  setting('boot', '0123456789ABCDEF', /`boot`/),
  setting('prev', '0'.repeat(64), /`prev`/),
  setting('type', 'unsealed', /`type` is unknown/),
  setting('actor', '', /`actor`/),
  setting('actor', 'uid 1', /`actor`/),
  setting('outcome', 'fine', /`outcome`/),
  setting('generation', 0, /`generation`/),
  setting('generation', 2.5, /./),
  forging('generation goes down', /`generation` is 1, and was 2/, { forge: (event) => ({ ...event, generation: 1 }) }),
  forging('generation is missing', /`generation` is missing/, { forge: (event) => without(event, 'generation') }),
  forging('generation where there is none', /no `generation`/, { type: 'encrypt', own: { generation: 2 } }),
  forging('outcome is missing', /`outcome` is missing/, { forge: (event) => without(event, 'outcome') }),
  forging('actor is missing', /`actor`/, { forge: (event) => without(event, 'actor') }),
  forging('key_id breaks its rule', /`key_id`/, { key_id: 'k_A' }),
  forging('thread_id breaks its rule', /`thread_id`/, { thread_id: 'a b' }),
  forging('members are not in their order', /not in its place/, {
    forge: (event) => ({ ...without(event, 'outcome', 'generation'), generation: 2, outcome: 'ok' }),
  }),
  forging('the first members are not in their order', /`type` is missing/, {
    forge: ({ seq, time, boot, prev, type, actor, ...rest }) => ({ seq, time, boot, prev, actor, type, ...rest }) as Members,
  }),
  forging('a member of its own stands before the outcome', /not in its place/, {
    forge: (event) => ({ ...without(event, 'outcome', 'generation'), own: 1, outcome: 'ok', generation: 2 }),
  }),
  forging('a name that none has', /name `Own`/, { own: { Own: 1 } }),
  replacing('a member twice', /name `n`/, '"n":5', '"n":5,"n":5'),
  replacing('one of the first members once more', /name `actor`/, '"n":5', '"actor":"uid:0"'),
  replacing('outcome twice', /not in its place/, '"outcome":"ok"', '"outcome":"ok","outcome":"ok"'),
  replacing('white space', /no value/, '"n":5', '"n": 5'),
  replacing('a number in another form', /no value/, '"n":5', '"n":5.0'),
  replacing('a number with zeros', /no value/, '"n":5', '"n":05'),
  replacing('an escape that is not needed', /no value/, 'panic', '\\u0070anic'),
  replacing('an escaped slash', /no value/, 'panic', '\\/'),
  replacing('an escape in capitals', /no value/, 'panic', '\\u001F'),
  replacing('an object', /no value/, '"n":5', '"n":{}'),
  replacing('a list', /no value/, '"n":5', '"n":[]'),
  forging('too long', /longer than 8192/, { own: { text: 'x'.repeat(8192) } }),
  forging('not UTF-8', /no value/, {
    own: { text: 'XY' },
    forgeLine: (line) => Buffer.from(Buffer.from(line).toString('latin1').replace('XY', '\xc3\x28'), 'latin1'),
  }),
  forging('something behind it', /does not end/, { forgeLine: (line) => `${line} ` }),
  forging('a signature that is not due', /does not end/, {
    forgeLine: (line) => line.replace(/}$/, `,"ed25519":"${Buffer.alloc(64).toString('base64')}"}`),
  }),
  forging('sig with stray bits', /`sig` is no base64/, { sig: `${'A'.repeat(42)}B=` }),
  { ...forging('sig is another one', /`sig` is wrong/, { sig: Buffer.alloc(32).toString('base64') }), isSecret: true },
  forging('recovered without its members', /`bytes` is missing/, { type: 'recovered' }),
  {
    what: 'generation goes down from what an event had',
    says: /`generation` is 6, and was 7/,
    forge(log) {
      log.generation = 7;
      log.write({ type: 'slot' });
      log.generation = 6;
      log.write({ type: 'slot' });
    },
  },
  {
    what: 'a checkpoint that another key signed',
    says: /`ed25519` is not a signature/,
    forge: (log) => log.checkpoint({ signer: stranger }),
  },
  {
    what: 'a checkpoint without a signature',
    says: /`ed25519`/,
    forge: (log) => log.checkpoint({ forgeLine: (line) => line.replace(/,"ed25519":"[^"]*"/, '') }),
  },
  {
    what: 'a checkpoint that counts wrongly',
    says: /`lines` is 7, and 1 stand before it/,
    forge: (log) => log.checkpoint({ forge: (event) => ({ ...event, lines: 7 }) }),
  },
  {
    what: 'a checkpoint that names another key',
    says: /`signing_key` is not the one/,
    forge: (log) => log.checkpoint({ forge: (event) => ({ ...event, signing_key: stranger.publicKey }) }),
  },
  {
    what: 'a checkpoint with an outcome',
    says: /no `outcome`/,
    forge: (log) =>
      log.checkpoint({
        forge: (event) => ({
          ...without(event, 'generation', 'lines', 'signing_key'),
          outcome: 'ok',
          generation: 2,
          lines: 1,
          signing_key: log.signer.publicKey,
        }),
      }),
  },
  {
    what: 'a succession that another key signed',
    says: /`ed25519` is not a signature/,
    forge: (log) => log.write({ type: 'signing_key', own: { public: stranger.publicKey }, signer: stranger }),
  },
  {
    what: 'a succession to no key',
    says: /`public` breaks/,
    forge: (log) => log.write({ type: 'signing_key', own: { public: 'AAAA' } }),
  },
  {
    what: 'a signature by the key before the last succession',
    says: /`ed25519` is not a signature/,
    forge: (log) => log.checkpoint({ signer: log.first }),
  },
  atStart('another key than the announced one', /`signing_key` is not the one/, (event, log) => ({
    ...event,
    signing_key: log.first.publicKey,
  })),
  atStart('a key that is none', /`signing_key` breaks/, (event) => ({ ...event, signing_key: 'AAAA' })),
  atStart('another store', /another store/, (event) => ({ ...event, store_id: 'f'.repeat(32) })),
  atStart('no store', /`store_id` breaks/, (event) => ({ ...event, store_id: 'F'.repeat(32) })),
  atStart('the epoch before once more', /`boot` is that of the start before/, (event, log) => ({
    ...event,
    boot: JSON.parse(String(log.lines[0])).event.boot,
  })),
  atStart('a newer format', /newer than this version reads/, (event) => ({ ...event, format: 2 })),
  atStart('a format that never was', /`format` breaks/, (event) => ({ ...event, format: 0 })),
  atStart('no format', /`format` is missing/, (event) => without(event, 'format')),
  atStart('no generation', /`generation` breaks its rule/, (event) => ({ ...event, generation: 0 })),
  atStart('no version', /`version` is missing/, (event) => without(event, 'version')),
  atStart('data operations unknown', /`data_operations`/, (event) => ({ ...event, data_operations: 'some' })),
  atStart('nothing is sealed to somebody', /one is null/, (event) => ({ ...event, epoch_key: null })),
  atStart('sealed to nobody', /one is null/, (event) => ({ ...event, auditor_key: null })),
  {
    ...atStart('sealed for another epoch', /does not open/, (event, log) => ({
      ...event,
      epoch_key: JSON.parse(String(log.lines[0])).event.epoch_key,
    })),
    isSecret: true,
  },
  atStart('an epoch key that is too short', /`epoch_key` breaks/, (event) => ({ ...event, epoch_key: 'AAAA' })),
  atStart('a name that stands in its place', /`data_operation` |missing/, (event) =>
    renamed(event, 'data_operations', 'data_operation'),
  ),
];

for (const one of CASES) {
  test(`both verifiers find a line that is forged: ${one.what}`, async (t) => {
    const log = new WrittenLog(auditor.publicKey);
    log.generation = 2;
    log.start();
    log.write({ type: 'create_dek', key_id: 'k_1', thread_id: 'chat/1' });
    const judged = { publicKey: log.first.publicKey, secret: secretOf(auditor) };
    const right = ground.file(`right-${CASES.indexOf(one)}.log`, log.bytes());
    t.true((await ground.verify([right], judged)).ok);
    t.true((await ground.independently([right], judged)).ok);

    one.forge(log);
    const path = ground.file(`forged-${CASES.indexOf(one)}.log`, log.bytes());
    const { ok, fault } = await ground.verify([path], judged);
    t.false(ok);
    t.like(fault, { line: log.lines.length });
    t.regex(fault?.what ?? '', one.says);
    const second = await ground.independently([path], judged);
    t.false(second.ok);
    t.is(second.fault?.line, log.lines.length, second.fault?.what ?? '');
    if (one.isSecret) return;
    t.is((await ground.verify([path], { publicKey: judged.publicKey })).fault?.line, log.lines.length);
    t.is((await ground.independently([path], { publicKey: judged.publicKey })).fault?.line, log.lines.length);
  });
}

function logOf(write: (log: WrittenLog) => void, sealedTo?: string): { log: WrittenLog; path: string } {
  const log = new WrittenLog(sealedTo);
  write(log);
  return { log, path: ground.file(`${Math.random()}.log`, log.bytes()) };
}

test('a log that begins without a start, or in the middle, is refused', async (t) => {
  const { log, path } = logOf((made) => {
    made.start();
    made.checkpoint();
  });
  const judged = { publicKey: log.first.publicKey };
  const later = ground.file('later.log', log.bytes(2));
  t.regex(
    (await ground.verify([later], judged)).fault?.what ?? '',
    /its `seq` is 3: the lines before it, of earlier files, are missing/,
  );
  t.false((await ground.independently([later], judged)).ok);
  const { log: other, path: startless } = logOf((made) => {
    made.boot = '0123456789abcdef';
    made.write({ type: 'seal' });
  });
  t.regex(
    (await ground.verify([startless], { publicKey: other.first.publicKey })).fault?.what ?? '',
    /first line of a log is its start/,
  );
  t.false((await ground.independently([startless], { publicKey: other.first.publicKey })).ok);
  t.regex((await ground.verify([path], { publicKey: stranger.publicKey })).fault?.what ?? '', /is not the public key given/);
  t.false((await ground.independently([path], { publicKey: stranger.publicKey })).ok);
  const empty = ground.file('empty.log', '');
  t.regex((await ground.verify([empty], judged)).fault?.what ?? '', /holds no line/);
  t.false((await ground.independently([empty], judged)).ok);
});

test('a start with an older keyring is reported with its line, and fails unless it is accepted', async (t) => {
  const { log, path } = logOf((made) => {
    made.generation = 9;
    made.start();
    made.generation = 4;
    made.start();
    made.write({ type: 'slot' });
    made.checkpoint();
  });
  const judged = { publicKey: log.first.publicKey };
  const report = await ground.verify([path], judged);
  t.like(report, { ok: false, lines: 8, rollbacks: 1, fault: null });
  t.like(report.rollbacksAt[0], { line: 4, seq: 4, from: 9, to: 4 });
  t.like(await ground.independently([path], judged), { ok: false, rollbacks: 1, fault: null });
  t.true((await ground.verify([path], { ...judged, acceptedRollbacks: [4] })).ok);
  t.true((await ground.independently([path], { ...judged, acceptedRollbacks: [4] })).ok);
  t.false((await ground.verify([path], { ...judged, acceptedRollbacks: [5] })).ok);
});

test('lines behind the last signature are counted apart', async (t) => {
  const { log, path } = logOf((made) => {
    made.start();
    made.write({ type: 'slot' });
    made.write({ type: 'slot' });
  });
  t.like(await ground.verify([path], { publicKey: log.first.publicKey }), {
    ok: true,
    lines: 5,
    signedLines: 3,
    unsignedLines: 2,
  });
  t.like(await ground.independently([path], { publicKey: log.first.publicKey }), { ok: true, lines: 5, signedLines: 3 });
});

test('epochs that are sealed to nobody or to another auditor are counted, and those of this one are checked', async (t) => {
  const judged = { secret: secretOf(auditor) };
  const { log, path } = logOf((made) => made.start());
  t.like(await ground.verify([path], { ...judged, publicKey: log.first.publicKey }), {
    ok: true,
    sigsChecked: 0,
    sigsUnchecked: 3,
  });
  const { log: other, path: toOther } = logOf((made) => made.start(), newPair('x25519').publicKey);
  t.like(await ground.verify([toOther], { ...judged, publicKey: other.first.publicKey }), { ok: true, sigsChecked: 0 });
  const { log: own, path: toOwn } = logOf((made) => made.start(), auditor.publicKey);
  t.like(await ground.verify([toOwn], { ...judged, publicKey: own.first.publicKey }), {
    ok: true,
    sigsChecked: 3,
    sigsUnchecked: 0,
  });
  t.like(await ground.independently([toOwn], { ...judged, publicKey: own.first.publicKey }), { ok: true, sigsChecked: 3 });
});

test('files that have become long are read before the one that is written, as one log', async (t) => {
  const log = new WrittenLog();
  log.start();
  for (let n = 0; n < 20; n++) log.write({ type: 'slot' });
  log.checkpoint();
  const folder = new Ground();
  t.teardown(() => folder.clear());
  const name = (seq: number) => `kms-audit-${String(seq).padStart(16, '0')}.log`;
  folder.file(name(1), log.bytes(0, 9));
  folder.file(name(10), log.bytes(9, 15));
  folder.file('kms-audit.log', log.bytes(15));
  folder.file('kms-audit.log.torn-2026-01-31T12:00:00.000Z', 'x');
  const judged = { publicKey: log.first.publicKey };
  t.like(await folder.verify([folder.dir], judged), { ok: true, lines: 24, firstSeq: 1, lastSeq: 24 });
  folder.file(name(10), log.bytes(9, 14));
  t.like((await folder.verify([folder.dir], judged)).fault, { file: 'kms-audit.log', line: 1, seq: 15 });
});

test('a signature plus the order of the group is refused by both', async (t) => {
  const { log } = logOf((made) => {
    made.start();
    made.checkpoint();
  });
  const order = 2n ** 252n + 27742317777372353535851937790883648493n;
  const line = String(log.lines[3]);
  const [, text = ''] = /"ed25519":"([^"]*)"/.exec(line) ?? [];
  const signature = Buffer.from(text, 'base64');
  const s = BigInt(`0x${Buffer.from(signature.subarray(32)).reverse().toString('hex')}`) + order;
  signature.set(Buffer.from(s.toString(16).padStart(64, '0'), 'hex').reverse(), 32);
  const changed = line.replace(text, signature.toString('base64'));
  const path = ground.file('malleated.log', Buffer.concat([log.bytes(0, 3), Buffer.from(`${changed}\n`)]));
  const judged = { publicKey: log.first.publicKey };
  t.is((await ground.verify([path], judged)).fault?.line, 4);
  t.is((await ground.independently([path], judged)).fault?.line, 4);
});

test('a file that ends within a line, or has no lines at all, is wrong there', async (t) => {
  const { log, path } = logOf((made) => made.start());
  const judged = { publicKey: log.first.publicKey };
  const torn = ground.file('torn.log', log.bytes().subarray(0, -1));
  t.like((await ground.verify([torn], judged)).fault, {
    file: 'torn.log',
    line: 3,
    seq: 3,
    what: 'it has no end: a write was torn, or the file was cut',
  });
  t.is((await ground.independently([torn], judged)).fault?.line, 3);
  // A file that was cut does not join the next one.
  const rest = ground.file('rest.log', '\n');
  t.is((await ground.verify([torn, rest], judged)).fault?.file, 'torn.log');
  const noise = ground.file('noise.log', Buffer.alloc(3 * 1024 * 1024, 0x20));
  t.like((await ground.verify([path, noise], judged)).fault, {
    file: 'noise.log',
    line: 1,
    what: 'it is longer than 8192 bytes',
  });
  t.is((await ground.independently([path, noise], judged)).fault?.line, 1);
});

test('the HMAC of the last line is held by an anchor, that of others by the next line', async (t) => {
  const { log } = logOf((made) => {
    made.start();
    made.checkpoint();
    made.checkpoint();
  });
  const other = (index: number) => {
    const line = String(log.lines[index]).replace(/"sig":"[^"]*"/, `"sig":"${Buffer.alloc(32).toString('base64')}"`);
    return Buffer.concat([log.bytes(0, index), Buffer.from(`${line}\n`), log.bytes(index + 1)]);
  };
  const last = ground.file('last-sig.log', other(4));
  const judged = { publicKey: log.first.publicKey };
  for (const how of ['verify', 'independently'] as const) {
    t.true((await ground[how]([last], judged)).ok);
    t.is((await ground[how]([last], { ...judged, anchors: [log.lines[4] as Buffer] })).fault?.line, 5);
  }
  const middle = await ground.verify([ground.file('middle-sig.log', other(3))], judged);
  t.like(middle, { lines: 3, signedLines: 3, unsignedLines: 0, fault: { line: 4 } });
});
