import test from 'ava';
import { beginning, Chain, type ChainOptions, type ChainState } from '../../dist/audit/verify/chain.js';
import { AuditorKey } from '../../dist/audit/verify/epoch-key.js';
import type { Fault } from '../../dist/audit/verify/report.js';
import { newSeed, randomFrom } from '../crash/random.js';
import { Ground } from './verified.js';
import { newPair, secretOf, typicalLog } from './written.js';

const LINES = 500;
const LF = 0x0a;
/** With AUDIT_MUTATIONS=all every bit of every byte; else one bit of every byte. */
const ALL_BITS = process.env['AUDIT_MUTATIONS'] === 'all';

const auditor = newPair('x25519');
const log = typicalLog(LINES, auditor.publicKey);
const whole = log.bytes();
const seed = newSeed();
const draw = randomFrom(seed);
const random = (below: number) => Math.floor(draw() * below);

function offsets(): number[] {
  const at = [0];
  for (const line of log.lines) at.push((at.at(-1) as number) + line.length + 1);
  return at;
}
const starts = offsets();

/** What verification knows before each line of the log as it was written: what precedes a change need not be verified again. */
function statesOf(options: ChainOptions): ChainState[] {
  const chain = new Chain(options);
  const states: ChainState[] = [];
  for (const [index, line] of log.lines.entries()) {
    states.push(copyOf(chain.state));
    const fault = chain.take(line, 0, line.length, 'log', index + 1);
    if (fault !== undefined) throw new Error(`line ${index + 1}: ${fault.what}`);
  }
  states.push(copyOf(chain.state));
  return states;
}

function copyOf(state: ChainState): ChainState {
  return { ...state, epochKey: state.epochKey?.copy() };
}

/** The first fault of `bytes`, of which those before `from`, where line `index` begins, are as they were written. */
function faultFrom(bytes: Buffer, index: number, from: number, states: ChainState[], options: ChainOptions): Fault | undefined {
  const chain = new Chain(options, copyOf(states[index] as ChainState));
  let line = index + 1;
  let at = from;
  for (;;) {
    const end = bytes.indexOf(LF, at);
    if (end < 0) break;
    const fault = chain.take(bytes, at, end, 'log', line++);
    if (fault !== undefined) return fault;
    at = end + 1;
  }
  return at < bytes.length ? chain.torn('log', line) : chain.end();
}

const plain: ChainOptions = { publicKey: log.first.publicKey };
const withKey: ChainOptions = { ...plain, auditorKey: new AuditorKey(secretOf(auditor)) };
const anchored: ChainOptions = { ...plain, anchors: new Map([[LINES, log.lines.at(-1) as Buffer]]) };

/** Where the `sig` of the very last line stands. */
const lastSig = whole.lastIndexOf('"sig":"') + '"sig":"'.length;
const isLastSig = (at: number) => at >= lastSig && at < lastSig + 44;

/** Every change of a byte that is not located at its own line, or not found at all. */
function missed(options: ChainOptions, bitsOf: () => number[]): { unfound: number[]; elsewhere: string[]; tried: number } {
  const states = statesOf(options);
  const bytes = Buffer.from(whole);
  const unfound: number[] = [];
  const elsewhere: string[] = [];
  let tried = 0;
  for (let index = 0; index < LINES; index++) {
    for (let at = starts[index] as number; at < (starts[index + 1] as number); at++) {
      const byte = whole[at] as number;
      for (const bit of bitsOf()) {
        tried++;
        bytes[at] = byte ^ (1 << bit);
        const fault = faultFrom(bytes, index, starts[index] as number, states, options);
        if (fault === undefined) unfound.push(at);
        else if (fault.line !== index + 1)
          elsewhere.push(`byte ${at}, bit ${bit} of line ${index + 1}: line ${fault.line}: ${fault.what}`);
      }
      bytes[at] = byte;
    }
  }
  return { unfound, elsewhere, tried };
}

const oneBit = () => [random(8)];
const allBits = () => [0, 1, 2, 3, 4, 5, 6, 7];

test('every changed byte of a log is found, at its line; but for the HMAC of the last line, which needs its key', (t) => {
  t.log(`seed ${seed}, ${whole.length} bytes`);
  const { unfound, elsewhere, tried } = missed(plain, ALL_BITS ? allBits : oneBit);
  t.true(tried >= whole.length);
  t.deepEqual(elsewhere, []);
  t.true(unfound.length > 0, 'such changes were tried');
  t.deepEqual(
    unfound.filter((at) => !isLastSig(at)),
    [],
  );
});

test('with the auditor’s key every changed byte is found, at its line', (t) => {
  t.log(`seed ${seed}`);
  const { unfound, elsewhere } = missed(withKey, ALL_BITS ? allBits : oneBit);
  t.deepEqual([unfound, elsewhere], [[], []]);
});

test('with an anchor every changed byte of the anchored line is found', (t) => {
  const states = statesOf(anchored);
  const bytes = Buffer.from(whole);
  const from = starts[LINES - 1] as number;
  for (let at = from; at < whole.length; at++) {
    bytes[at] = (whole[at] as number) ^ 1;
    t.truthy(faultFrom(bytes, LINES - 1, from, states, anchored), `byte ${at}`);
    bytes[at] = whole[at] as number;
  }
});

interface Change {
  what: string;
  /** The lines from `index` on, after the change. */
  lines: Buffer[];
  /** Where it is to be found, counted from 1: each of these is right. */
  at: number[];
}

function changesAt(index: number): Change[] {
  const rest = log.lines.slice(index);
  const [own, next] = rest as [Buffer, Buffer];
  const other = log.lines[random(LINES)] as Buffer;
  const line = index + 1;
  return [
    { what: 'deleted', lines: rest.slice(1), at: [line] },
    { what: 'swapped with the next', lines: [next, own, ...rest.slice(2)], at: [line] },
    { what: 'repeated', lines: [own, ...rest], at: [line + 1] },
    { what: 'an older or later line put before it', lines: [other, ...rest], at: [line, line + 1] },
    { what: 'an empty line put before it', lines: [Buffer.alloc(0), ...rest], at: [line] },
  ];
}

function joined(lines: Buffer[]): Buffer {
  return Buffer.concat(lines.flatMap((line) => [line, Buffer.of(LF)]));
}

test('every deleted, swapped, repeated and inserted line is found where it is', (t) => {
  t.log(`seed ${seed}`);
  const states = statesOf(anchored);
  for (let index = 0; index < LINES - 1; index++) {
    for (const { what, lines, at } of changesAt(index)) {
      const fault = faultFrom(joined(lines), index, 0, states, anchored);
      t.true(fault !== undefined && at.includes(fault.line), `line ${index + 1} ${what}: ${JSON.stringify(fault)}`);
    }
  }
});

test('every cut is found with an anchor: between lines, and within one without, too', (t) => {
  const states = statesOf(anchored);
  const bare = statesOf(plain);
  for (let index = 0; index < LINES; index++) {
    const cut = faultFrom(Buffer.alloc(0), index, 0, states, anchored);
    t.regex(cut?.what ?? '', index === 0 ? /no line/ : /its end was cut off/, `before line ${index + 1}`);
    const torn = (log.lines[index] as Buffer).subarray(0, 1 + random((log.lines[index] as Buffer).length));
    const fault = faultFrom(torn, index, 0, bare, plain);
    t.is(fault?.line, index + 1);
    t.regex(fault?.what ?? '', /has no end/);
  }
});

test('lines that were chained anew up to a signature are found by it', (t) => {
  const states = statesOf(plain);
  const target = log.lines.findIndex((line, index) => index > 100 && String(line).includes('"type":"create_dek"'));
  const checkpoint = log.lines.findIndex((line, index) => index > target && String(line).includes('"ed25519"'));
  t.true(checkpoint > target + 2);
  const forged = typicalLog(target, auditor.publicKey);
  // Whoever can write the file makes the chain right, and cannot sign.
  for (let index = target; index < checkpoint; index++) {
    const event = JSON.parse(String(log.lines[index])).event;
    forged.write({ ...event, forge: ({ prev }) => ({ ...event, actor: 'uid:0', prev: index === target ? event.prev : prev }) });
  }
  const lines = [...forged.lines.slice(target), ...log.lines.slice(checkpoint)];
  const fault = faultFrom(joined(lines), target, 0, states, plain);
  t.is(fault?.line, checkpoint, 'the line before the signature is not what was signed');
  t.regex(fault?.what ?? '', /not the line that the next one follows/);
});

test('the second verifier finds the same, at the same line or the next', async (t) => {
  t.log(`seed ${seed}`);
  const ground = new Ground();
  t.teardown(() => ground.clear());
  const short = typicalLog(120, auditor.publicKey);
  const judged = { publicKey: short.first.publicKey, secret: secretOf(auditor), anchors: [short.lines.at(-1) as Buffer] };
  const right = ground.file('right.log', short.bytes());
  t.like(await ground.verify([right], judged), { ok: true, lines: 120, sigsChecked: 120 });
  t.like(await ground.independently([right], judged), { ok: true, lines: 120, sigsChecked: 120 });
  const bytes = short.bytes();
  for (let round = 0; round < 60; round++) {
    const changed = Buffer.from(bytes);
    const at = random(bytes.length);
    changed[at] = (bytes[at] as number) ^ (1 << random(8));
    const length = round % 5 === 0 ? at : bytes.length;
    const path = ground.file('changed.log', changed.subarray(0, length));
    const first = await ground.verify([path], judged);
    const second = await ground.independently([path], judged);
    t.false(first.ok, `byte ${at}`);
    if (round % 5 !== 0) t.is(first.lines, (first.fault?.line ?? 0) - 1);
    t.false(second.ok, `byte ${at}`);
    const distance = (second.fault?.line ?? 0) - (first.fault?.line ?? 0);
    t.true(distance === 0 || distance === 1, `byte ${at}: ${JSON.stringify([first.fault, second.fault])}`);
  }
});

test('what verification knows can be copied, and goes on from the copy', (t) => {
  const states = statesOf(withKey);
  t.is(states.length, LINES + 1);
  t.is(beginning(plain.publicKey).lines, 0);
  t.is(faultFrom(whole.subarray(starts[250]), 250, 0, states, withKey), undefined);
});
