import { createHash } from 'node:crypto';
import { appendFileSync, chmodSync, readdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type Ground, openLogGround } from '../../dist/audit/log-ground.js';
import { nodeFileSystem } from '../../dist/store/file-system.js';
import { newDataDir } from '../store/data-dir.js';
import { interceptedFileSystem, systemError } from '../store/intercepted.js';
import { Lines } from './made-lines.js';

const LOG = 'kms-audit.log';

async function opened(t: ExecutionContext, dataDir: string, mayBeginAnew = false, signers: string[] = []): Promise<Ground> {
  const ground = await openLogGround(nodeFileSystem, dataDir, {
    maxFileBytes: 2 ** 30,
    mayBeginAnew,
    signers,
    onDurable: () => {},
  });
  t.teardown(() => ground.file.close());
  return ground;
}

function written(t: ExecutionContext, bytes: Uint8Array | string): string {
  const dataDir = newDataDir(t);
  writeFileSync(join(dataDir, LOG), bytes, { mode: 0o600 });
  return dataDir;
}

function asideOf(dataDir: string): string[] {
  return readdirSync(dataDir).filter((name) => name.includes('torn'));
}

test('a log that is not there is made, and begins with the first line', async (t) => {
  const dataDir = newDataDir(t);
  const { end, torn } = await opened(t, dataDir);
  t.is(end.seq, 0);
  t.deepEqual(Buffer.from(end.hash), Buffer.alloc(32));
  t.deepEqual(torn, []);
  t.is(readFileSync(join(dataDir, LOG), 'utf8'), '');
});

test('a log goes on after its last line, with the key and the generation that its lines tell of', async (t) => {
  const lines = new Lines();
  const bytes = Buffer.concat([lines.checkpoint('key-7'), lines.many(3)]);
  const { end } = await opened(t, written(t, bytes));
  t.is(end.seq, 4);
  t.deepEqual(Buffer.from(end.hash), lines.hash);
  t.is(end.signingKey, 'key-7');
  t.is(end.generation, 4);
});

test('the last announced key is the one in use', async (t) => {
  const lines = new Lines();
  const announced = { type: 'signing_key', actor: 'uid:1', generation: 9, public: 'key-8' };
  const { end } = await opened(t, written(t, Buffer.concat([lines.checkpoint('key-7'), lines.next(announced), lines.next()])));
  t.is(end.signingKey, 'key-8');
  t.is(end.generation, 9);
});

test('however far back the last signature stands, it is found', async (t) => {
  const lines = new Lines();
  const { end } = await opened(t, written(t, Buffer.concat([lines.many(5), lines.checkpoint('far'), lines.many(6_000)])));
  t.is(end.signingKey, 'far');
  t.is(end.seq, 6_006);
});

const TORN: Array<[what: string, tail: (lines: Lines) => Buffer]> = [
  ['the beginning of a line', (lines) => lines.next().subarray(0, 50)],
  ['a line without its line feed', (lines) => lines.next().subarray(0, -1)],
  ['zeros', () => Buffer.alloc(300)],
  ['the beginning of a line and zeros', (lines) => Buffer.concat([lines.next().subarray(0, 20), Buffer.alloc(80)])],
  [
    'zeros and a later line',
    (lines) => {
      lines.next();
      return Buffer.concat([Buffer.alloc(200), lines.next()]);
    },
  ],
];

for (const [what, tail] of TORN) {
  test(`${what} at the end: set aside whole, cut from the log, and to be recorded`, async (t) => {
    const lines = new Lines();
    const whole = Buffer.concat([lines.checkpoint(), lines.many(2)]);
    const torn = tail(lines);
    const dataDir = written(t, Buffer.concat([whole, torn]));
    const ground = await opened(t, dataDir);
    t.is(ground.end.seq, 3);
    t.is(readFileSync(join(dataDir, LOG), 'latin1'), whole.toString('latin1'));
    t.like(ground.torn, [{ bytes: torn.length, sha256: createHash('sha256').update(torn).digest('hex') }]);
    const [name] = asideOf(dataDir);
    t.regex(name ?? '', /^kms-audit\.log\.torn-.*\.unrecorded$/);
    t.deepEqual(readFileSync(join(dataDir, name ?? '')), torn);
    const again = await opened(t, dataDir);
    t.deepEqual(again.torn, ground.torn, 'a crash before it was recorded has it recorded by the next start');
    await again.recorded(again.torn[0] as (typeof again.torn)[0]);
    t.deepEqual(asideOf(dataDir), [again.torn[0]?.file]);
    t.deepEqual((await opened(t, dataDir)).torn, []);
  });
}

test('the torn first lines of all are set aside too', async (t) => {
  const { end, torn } = await opened(t, written(t, new Lines().next().subarray(0, 40)));
  t.is(end.seq, 0);
  t.is(torn.length, 1);
});

for (const [what, change] of [
  ['taken out', (lines: Buffer[]) => [lines[0], lines[2], lines[3]]],
  ['put in', (lines: Buffer[]) => [lines[0], lines[1], lines[1], lines[2], lines[3]]],
  ['swapped', (lines: Buffer[]) => [lines[0], lines[2], lines[1], lines[3]]],
  ['changed', (lines: Buffer[]) => [lines[0], Buffer.from(String(lines[1]).replace('uid:1', 'uid:2')), lines[2], lines[3]]],
  ['made unreadable', (lines: Buffer[]) => [lines[0], Buffer.from('{}\n'), lines[2], lines[3]]],
] as const) {
  test(`whole lines of which one was ${what} are no crash's work: the start is refused and the log stays as it is`, async (t) => {
    const lines = new Lines();
    const all = [lines.checkpoint(), lines.next(), lines.next(), lines.next()];
    const bytes = Buffer.concat(change(all) as Buffer[]);
    const dataDir = written(t, bytes);
    await t.throwsAsync(opened(t, dataDir), { code: 'AUDIT_UNAVAILABLE', message: /do not follow each other/ });
    t.deepEqual(readFileSync(join(dataDir, LOG)), bytes);
    const { end, torn } = await opened(t, dataDir, true);
    t.is(end.seq, 0);
    t.is(torn[0]?.bytes, bytes.length, 'the operator goes on without them, and they are kept');
  });
}

test('between two files, where a crash has left none, the newest old one says where it goes on', async (t) => {
  const lines = new Lines();
  const dataDir = written(t, Buffer.concat([lines.checkpoint('key-3'), lines.many(2)]));
  renameSync(join(dataDir, LOG), join(dataDir, 'kms-audit-0000000000000001.log'));
  for (const look of ['made', 'empty']) {
    const { end } = await opened(t, dataDir);
    t.is(end.seq, 3, look);
    t.is(end.signingKey, 'key-3', look);
  }
});

test('an old file that does not end with a whole line is refused', async (t) => {
  const dataDir = newDataDir(t);
  const lines = new Lines();
  writeFileSync(join(dataDir, 'kms-audit-0000000000000001.log'), Buffer.concat([lines.checkpoint(), Buffer.from('{"ev')]), {
    mode: 0o600,
  });
  await t.throwsAsync(opened(t, dataDir), { code: 'AUDIT_UNAVAILABLE', message: /whole line/ });
});

test('a log that others can read, or that is a link, is refused', async (t) => {
  const dataDir = written(t, '');
  chmodSync(join(dataDir, LOG), 0o644);
  await t.throwsAsync(opened(t, dataDir), { code: 'PERMISSION_DENIED', message: /chmod 600/ });
  const linked = newDataDir(t);
  appendFileSync(join(linked, 'elsewhere'), '', { mode: 0o600 });
  symlinkSync(join(linked, 'elsewhere'), join(linked, LOG));
  await t.throwsAsync(opened(t, linked), { code: 'AUDIT_UNAVAILABLE', message: /ELOOP/ });
});

test('what no key at hand can sign is gone on with by nobody: with permission all of it is set aside and another chain begins', async (t) => {
  const lines = new Lines();
  const dataDir = written(t, Buffer.concat([lines.checkpoint('key-3'), lines.many(2)]));
  renameSync(join(dataDir, LOG), join(dataDir, 'kms-audit-0000000000000001.log'));
  writeFileSync(join(dataDir, LOG), lines.many(2), { mode: 0o600 });
  t.is((await opened(t, dataDir, true, ['key-2', 'key-3'])).end.seq, 5);
  t.deepEqual(asideOf(dataDir), []);
  const { end, torn } = await opened(t, dataDir, true, ['key-2']);
  t.is(end.seq, 0);
  t.is(torn.length, 2);
  t.is(readFileSync(join(dataDir, LOG)).length, 0);
  const again = await opened(t, dataDir, true, ['key-2']);
  t.deepEqual(again.torn, torn, 'it is not set aside twice');
});

test.serial('a torn end and the log that it was cut off are set aside in one moment, and both are kept', async (t) => {
  const { now } = Date;
  const moment = now();
  Date.now = () => moment;
  t.teardown(() => {
    Date.now = now;
  });
  const lines = new Lines();
  const whole = Buffer.concat([lines.checkpoint('key-3'), lines.many(2)]);
  const end = lines.next().subarray(0, 50);
  const dataDir = written(t, Buffer.concat([whole, end]));
  const { torn } = await opened(t, dataDir, true, ['key-2']);
  t.deepEqual(torn.map(({ bytes }) => bytes).sort(), [end.length, whole.length].sort());
  t.deepEqual(asideOf(dataDir).length, 2);
});

test('a crash while a log is set aside leaves one that is still refused, and the next start sets the rest aside', async (t) => {
  const lines = new Lines();
  const dataDir = written(t, Buffer.concat([lines.checkpoint('key-3'), lines.many(2)]));
  renameSync(join(dataDir, LOG), join(dataDir, 'kms-audit-0000000000000001.log'));
  writeFileSync(join(dataDir, LOG), lines.many(2), { mode: 0o600 });
  const crashing = interceptedFileSystem(({ op, of }, proceed) => {
    if (op === 'rename' && of === LOG) throw systemError('EIO', op);
    return proceed();
  });
  const options = { maxFileBytes: 2 ** 30, mayBeginAnew: true, signers: ['key-2'], onDurable: () => {} };
  await t.throwsAsync(openLogGround(crashing, dataDir, options), { code: 'AUDIT_UNAVAILABLE' });
  t.is(asideOf(dataDir).length, 1);
  t.like((await opened(t, dataDir)).end, { seq: 5, signingKey: '' }, 'no keyring holds that key');
  const { end, torn } = await opened(t, dataDir, true, ['key-2']);
  t.is(end.seq, 0);
  t.is(torn.length, 2);
});
