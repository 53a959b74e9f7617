import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { createEmbeddedKms } from '../../dist/create.js';
import { ERROR_TABLE, type ErrorCode, KmsError } from '../../dist/errors.js';
import { BIT, binding, DEFERRED, MAX_DEFERRED } from '../../dist/native.js';
import { OP } from '../../dist/wire/frames.js';
import { decodeRequest, parseArguments } from '../../dist/wire/messages.js';
import { choices, ENCODERS, encoded, framed, integerEncodings, type Value } from './encodings.js';
import { cut, walk } from './walk.js';

const seed = Number(process.env['TEST_SEED'] ?? Date.now() % 2 ** 31);
/** Checks a property; a failure tells its reason and where to find it, not the whole counterexample. */
function holds<T>(t: ExecutionContext, property: fc.IProperty<T>, numRuns: number): void {
  const { failed, errorInstance, counterexamplePath } = fc.check(property, { seed, numRuns });
  t.false(failed, `path ${counterexamplePath}: ${errorInstance instanceof Error ? errorInstance.message.slice(0, 2_000) : ''}`);
}

test.before((t) => t.log(`seed ${seed} (TEST_SEED=${seed} runs the same)`));

const kms = await createEmbeddedKms({ memory: true });
test.after.always(() => kms.close());
const { space } = kms;
const [active, second, disabled] = (await Promise.all([1, 2, 3].map(() => kms.createDek()))).map((key) => key.keyId) as [
  string,
  string,
  string,
];
await kms.disableKey(disabled);
const unknown = `k_${'f'.repeat(32)}`;
// So that no answer depends on how many came before it.
for (const keyId of [active, second]) binding.grantUses(space, keyId, 2 ** 31);

type Aad = Uint8Array | null | Array<Uint8Array | null>;

/** A request that is valid as docs/PROTOCOL.md has it. */
interface Ask {
  id: number;
  op: number;
  keyId: string;
  /** One for ops 2 and 3. */
  plains: Uint8Array[];
  aad: Aad;
  /** Its ciphertexts do not match. */
  spoilt: boolean;
}

const small = fc.uint8Array({ maxLength: 40 });
const data = fc.oneof(
  { weight: 9, arbitrary: small },
  { weight: 1, arbitrary: fc.nat(70_000).map((size) => new Uint8Array(size).fill(5)) },
);
const oneAad = fc.option(small, { nil: null });

function asks(message: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Ask> {
  const common = {
    id: fc.oneof(fc.nat(200), fc.nat(0xffff_ffff)),
    keyId: fc.constantFrom(active, active, second, disabled, unknown),
    spoilt: fc.boolean(),
  };
  const one = fc.record({ ...common, op: fc.constantFrom(2, 3), plains: message.map((plain) => [plain]), aad: oneAad });
  const batch = fc.integer({ min: 0, max: 20 }).chain((items) =>
    fc.record({
      ...common,
      op: fc.constantFrom(4, 5),
      plains: fc.array(small, { minLength: items, maxLength: items }),
      aad: fc.oneof(oneAad, fc.array(oneAad, { minLength: items, maxLength: items })) as fc.Arbitrary<Aad>,
    }),
  );
  return fc.oneof<fc.Arbitrary<Ask>[]>(one, batch);
}

function aadAt(aad: Aad, index: number): Uint8Array | undefined {
  return (Array.isArray(aad) ? aad[index] : aad) ?? undefined;
}

function valueOfAsk({ id, op, keyId, plains, aad, spoilt }: Ask): Value {
  const seals = op === OP.encrypt || op === OP.encryptMany;
  const items = plains.map((plain, i) => {
    if (seals) return plain;
    // A key that cannot serve needs no ciphertext that it could open.
    const sealed = new Uint8Array(kms.encryptSync(keyId === second ? second : active, plain, aadAt(aad, i)));
    if (spoilt) sealed[sealed.length - 1]! ^= 1;
    return sealed;
  });
  return [id, op, keyId, op >= OP.encryptMany ? items : items[0]!, aad];
}

function refusal(id: number, code: ErrorCode): unknown[] {
  return [id, ERROR_TABLE[code].wire, ERROR_TABLE[code].message];
}

const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

/** The answer that the request must get, with what was encrypted in the place of its ciphertext; undefined if it is deferred. */
function expected({ id, op, keyId, plains, spoilt }: Ask): unknown[] | undefined {
  if (keyId === unknown) return undefined;
  if (keyId === disabled) return refusal(id, 'KEY_DISABLED');
  const failed = refusal(0, 'AUTHENTICATION_FAILED').slice(1);
  if (op === OP.encrypt) return [id, 0, text(plains[0]!), '1'];
  if (op === OP.decrypt) return spoilt ? [id, ...failed] : [id, 0, text(plains[0]!)];
  return [id, 0, plains.map((plain) => (spoilt && op === OP.decryptMany ? failed : text(plain)))];
}

/** An answer with its ciphertexts opened, so that two can be compared. */
function opened({ op, keyId, aad }: Ask, answer: unknown[]): unknown[] {
  const open = (item: unknown, i: number) => {
    if (!(item instanceof Uint8Array)) return item;
    return text(op === OP.encrypt || op === OP.encryptMany ? kms.decryptSync(keyId, item, aadAt(aad, i)) : item);
  };
  const [id, code, result, ...rest] = answer;
  if (code !== 0) return answer;
  return [id, code, Array.isArray(result) ? result.map(open) : open(result, 0), ...rest];
}

function equal(actual: unknown, wanted: unknown): void {
  if (JSON.stringify(actual) !== JSON.stringify(wanted))
    throw new Error(`${JSON.stringify(actual)} is not ${JSON.stringify(wanted)}`);
}

/** Every request got its answer, in order, and those of keys that are not cached were left over. */
function allAnswered(requests: Ask[], walked: ReturnType<typeof walk>): void {
  const served = requests.filter((ask) => expected(ask) !== undefined);
  equal(walked.answers.length, served.length);
  for (const [i, ask] of served.entries()) equal(opened(ask, walked.answers[i]!), expected(ask));
  const left = requests.filter((ask) => expected(ask) === undefined);
  equal(
    walked.deferred.map(({ body, why }) => [decodeRequest(body).id, why]),
    left.map((ask) => [ask.id, DEFERRED.notCached]),
  );
  equal([walked.broken, walked.rest.length], [false, 0]);
}

const numbers = fc.array(fc.nat(1_000), { minLength: 30, maxLength: 30 });

test('every valid encoding of a request, by any encoder, gets its answer', (t) => {
  holds(
    t,
    fc.property(asks(data), numbers, fc.nat(ENCODERS.length - 1), (ask, picks, encoder) => {
      const body = ENCODERS[encoder]!(valueOfAsk(ask), choices(picks));
      allAnswered([ask], walk(space, BIT.client, [framed(body)]));
    }),
    1_500,
  );
});

test('every width of an integer, a string, a binary and an array is taken', (t) => {
  const plain = Uint8Array.of(1, 2, 3);
  for (const id of [0, 127, 128, 255, 256, 32_767, 65_535, 65_536, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1]) {
    for (const encoding of integerEncodings(id)) {
      for (let pick = 0; pick < 9; pick += 1) {
        for (const op of [OP.encrypt, OP.encryptMany]) {
          const rest = [op, active, op === OP.encrypt ? plain : [plain], null].map((part) =>
            encoded(part as Value, () => pick % 3),
          );
          const start = [Buffer.of(0x95), Buffer.of(0xdc, 0, 5), Buffer.of(0xdd, 0, 0, 0, 5)][pick % 3]!;
          const { answers } = walk(space, BIT.client, [framed(Buffer.concat([start, encoding, ...rest]))]);
          t.deepEqual(answers[0]?.slice(0, 2), [id, 0], `${id} as ${encoding.toString('hex')}`);
        }
      }
    }
  }
});

test('however the stream is cut, the answers are the same', (t) => {
  const streams = fc.array(asks(small), { minLength: 1, maxLength: 30 });
  holds(
    t,
    fc.property(streams, numbers, fc.array(fc.nat(1_000_000), { maxLength: 20 }), (requests, picks, places) => {
      const choose = choices(picks);
      const stream = Buffer.concat(requests.map((ask) => framed(ENCODERS[choose(3)]!(valueOfAsk(ask), choose))));
      const cuts = places.map((place) => place % (stream.length + 1)).sort((a, b) => a - b);
      allAnswered(requests, walk(space, BIT.client, cut(stream, cuts)));
    }),
    400,
  );
  holds(
    t,
    fc.property(fc.array(asks(small), { minLength: 1, maxLength: 3 }), numbers, (requests, picks) => {
      const stream = Buffer.concat(requests.map((ask) => framed(encoded(valueOfAsk(ask), choices(picks)))));
      allAnswered(requests, walk(space, BIT.client, cut(stream, Array.from(stream.keys()))));
    }),
    60,
  );
});

test('however little room there is for answers, they are the same', (t) => {
  const tiny = fc.uint8Array({ maxLength: 16 });
  holds(
    t,
    fc.property(
      fc.array(asks(tiny), { minLength: 5, maxLength: 40 }),
      fc.integer({ min: 3_300, max: 5_000 }),
      (requests, room) => {
        const stream = Buffer.concat(requests.map((ask) => framed(encoded(valueOfAsk(ask), choices([0])))));
        const walked = walk(space, BIT.client, [stream], room);
        allAnswered(requests, walked);
      },
    ),
    300,
  );
  const many = Array.from(
    { length: 500 },
    (_, id): Ask => ({ id, op: 2, keyId: active, plains: [Uint8Array.of(id)], aad: null, spoilt: false }),
  );
  const walked = walk(space, BIT.client, [Buffer.concat(many.map((ask) => framed(encoded(valueOfAsk(ask), choices([0])))))], 300);
  allAnswered(many, walked);
  t.true(walked.calls >= 400, `the room was full ${walked.calls} times`);
});

test('an answer that never fits is left to TypeScript, and the walk goes on behind it', (t) => {
  const large: Ask = { id: 1, op: 2, keyId: active, plains: [new Uint8Array(1_000)], aad: null, spoilt: false };
  const after: Ask = { ...large, id: 2, plains: [Uint8Array.of(1)] };
  const stream = Buffer.concat([large, after].map((ask) => framed(encoded(valueOfAsk(ask), choices([0])))));
  const walked = walk(space, BIT.client, [stream], 600);
  t.deepEqual(
    walked.deferred.map(({ body, why }) => [decodeRequest(body).id, why]),
    [[1, DEFERRED.large]],
  );
  t.deepEqual(
    walked.answers.map(([id]) => id),
    [2],
  );
});

test('more frames than one report can name are all left over, once and in order', (t) => {
  const count = 3 * MAX_DEFERRED + 17;
  const frames = Array.from({ length: count }, (_, id) => {
    if (id % 5 === 0) return encoded([id, OP.encrypt, active, Uint8Array.of(1), null], choices([0]));
    return id % 2 === 0
      ? encoded([id, OP.status], choices([0]))
      : encoded([id, OP.encrypt, unknown, Uint8Array.of(1), null], choices([id]));
  });
  const walked = walk(space, BIT.client, [Buffer.concat(frames.map(framed))]);
  const hot = frames.flatMap((_, id) => (id % 5 === 0 ? [id] : []));
  t.deepEqual(
    walked.answers.map(([id]) => id as number),
    hot,
  );
  const cold = frames.flatMap((_, id) => (id % 5 === 0 ? [] : [[id, id % 2 === 0 ? DEFERRED.cold : DEFERRED.notCached]]));
  t.deepEqual(
    walked.deferred.map(({ body, why }) => [decodeRequest(body).id, why]),
    cold,
  );
  t.true(walked.calls > 2);
});

test('who may not use keys, or finds them sealed, is told so whatever was asked', (t) => {
  holds(
    t,
    fc.property(asks(small), numbers, fc.constantFrom(0, BIT.sealed, BIT.client | BIT.sealed), (ask, picks, bits) => {
      const { answers, deferred } = walk(space, bits, [framed(encoded(valueOfAsk(ask), choices(picks)))]);
      equal(answers, [refusal(ask.id, (bits & BIT.client) === 0 ? 'PERMISSION_DENIED' : 'SEALED')]);
      equal(deferred.length, 0);
    }),
    200,
  );
});

test('a plaintext that was encrypted is gone from the input', (t) => {
  const secret = new Uint8Array(64).fill(0xd7);
  for (const plains of [[secret], [secret, secret, secret]]) {
    const ask: Ask = { id: 1, op: plains.length > 1 ? 4 : 2, keyId: active, plains, aad: null, spoilt: false };
    const frame = framed(encoded(valueOfAsk(ask), choices([0])));
    t.true(frame.includes(Buffer.from(secret)), 'it was there');
    t.false(walk(space, BIT.client, [frame]).wiped.includes(Buffer.from(secret.subarray(0, 8))));
  }
});

/** What the decoder of cold requests makes of a body. */
function coldVerdict(body: Buffer): 'malformed' | 'invalid' | 'key id' | 'valid' {
  let request: ReturnType<typeof decodeRequest>;
  try {
    request = decodeRequest(body);
  } catch {
    return 'malformed';
  }
  try {
    parseArguments(request.op, request.args);
    return 'valid';
  } catch (error) {
    if (!(error instanceof KmsError)) throw error;
    return error.message.includes('key_id: must match') ? 'key id' : 'invalid';
  }
}

/** A batch of too many items, announced by whatever stands in the place of its length, is wrong like any other argument. */
const REFUSALS: number[] = [ERROR_TABLE.INVALID_ARGUMENT.wire, ERROR_TABLE.TOO_LARGE.wire];

/** What the native parser makes of it: of a body for TypeScript it says nothing. */
function hotVerdict(body: Buffer): 'malformed' | 'invalid' | 'cold' | 'not cached' | 'valid' {
  const { answers, deferred, broken } = walk(space, BIT.client, [framed(body)]);
  equal(answers.length + deferred.length, 1);
  if (broken) return 'malformed';
  if (deferred[0] !== undefined) return deferred[0].why === DEFERRED.cold ? 'cold' : 'not cached';
  return REFUSALS.includes(answers[0]![1] as number) ? 'invalid' : 'valid';
}

const AGREEING: Record<ReturnType<typeof hotVerdict>, ReadonlyArray<ReturnType<typeof coldVerdict>>> = {
  // What has no readable id ends the connection in both.
  malformed: ['malformed'],
  // A request that has one is answered. Behind the id the native parser reads only what it wants, so that it may find
  // an argument wrong where the other finds that the frame is no MessagePack.
  invalid: ['invalid', 'key id', 'malformed'],
  cold: ['valid', 'invalid', 'key id', 'malformed'],
  'not cached': ['valid', 'key id'],
  valid: ['valid'],
};

const anything: fc.Arbitrary<Value> = fc.letrec<{ value: Value }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    fc.constant(null),
    fc.nat(300),
    fc.constantFrom(active, unknown, 'k_X', ''),
    small,
    fc.array(tie('value'), { maxLength: 6 }),
  ),
})).value;

function agree(body: Buffer): ReturnType<typeof hotVerdict> {
  const [hot, cold] = [hotVerdict(Buffer.from(body)), coldVerdict(body)];
  if (!AGREEING[hot].includes(cold)) throw new Error(`native: ${hot}, cold decoder: ${cold}: ${body.toString('hex')}`);
  return hot;
}

test('the native parser and the decoder of cold requests agree about what is valid', (t) => {
  const seen = new Map<string, number>();
  const note = (verdict: string) => seen.set(verdict, (seen.get(verdict) ?? 0) + 1);
  holds(
    t,
    fc.property(
      asks(small),
      numbers,
      fc.array(fc.tuple(fc.nat(30), fc.nat(255)), { maxLength: 3 }),
      fc.nat(9),
      (ask, picks, changes, tail) => {
        const body = encoded(valueOfAsk(ask), choices(picks));
        for (const [at, value] of changes) body[at % body.length] = value;
        note(agree(tail === 0 ? Buffer.concat([body, Buffer.of(1)]) : tail < 3 ? body.subarray(0, -tail) : body));
      },
    ),
    5_000,
  );
  holds(
    t,
    fc.property(
      fc.array(anything, { minLength: 0, maxLength: 5 }),
      fc.constantFrom(2, 3, 4, 5),
      numbers,
      fc.boolean(),
      (rest, op, picks, hot) => {
        note(agree(encoded(hot ? [7, op, ...rest] : rest, choices(picks))));
      },
    ),
    5_000,
  );
  holds(
    t,
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 60 }), (body) => {
      note(agree(Buffer.from(body)));
    }),
    3_000,
  );
  t.log(Object.fromEntries(seen));
  for (const verdict of ['malformed', 'invalid', 'cold', 'valid', 'not cached'])
    t.true((seen.get(verdict) ?? 0) > 20, `${verdict} came up`);
});

test('a frame that is empty or too long breaks the stream off behind the answers before it', (t) => {
  const good = framed(encoded([1, OP.encrypt, active, Uint8Array.of(1), null], choices([0])));
  for (const [bad, code] of [
    [Buffer.alloc(4), 3],
    [Buffer.of(1, 0, 0, 0), 11],
    [Buffer.of(255, 0, 0, 0), 11],
    [framed(Buffer.of(0xc1)), 3],
  ] as const) {
    const walked = walk(space, BIT.client, [Buffer.concat([good, bad, good])]);
    t.deepEqual(
      walked.answers.map(([id, status]) => [id, status]),
      [
        [1, 0],
        [0, code],
      ],
      bad.toString('hex'),
    );
    t.true(walked.broken);
  }
});
