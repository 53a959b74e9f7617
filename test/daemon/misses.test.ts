import test, { type ExecutionContext } from 'ava';
import { NO_REQUEST, OP } from '../../dist/wire/frames.js';
import type { Answer } from '../../dist/wire/messages.js';
import { type Running, running } from './running.js';

interface Sealed {
  keyId: string;
  plaintext: Buffer;
  ciphertext: Uint8Array;
}

/** A daemon on an LMDB store whose vault holds few keys, and messages under more. */
async function ground(t: ExecutionContext, cachedKeys: number, keys: number): Promise<Running & { messages: Sealed[] }> {
  const own = await running(t, { store: 'lmdb' }, { cachedKeys });
  const { kms } = own.daemon;
  const messages: Sealed[] = [];
  for (let index = 0; index < keys; index += 1) {
    const { keyId } = await kms.createDekForThread(`thread-${index}`);
    const plaintext = Buffer.from(`message ${index}`);
    messages.push({ keyId, plaintext, ciphertext: (await kms.encryptWithDek(keyId, plaintext)).ciphertext });
  }
  return { ...own, messages };
}

/** All in one write, so that they come in as few chunks as there can be. */
async function opened({ connect }: Running, messages: ReadonlyArray<Omit<Sealed, 'plaintext'>>): Promise<Answer[]> {
  const peer = await connect();
  const asked = messages.map(({ keyId, ciphertext }) => peer.prepare(OP.decrypt, [keyId, ciphertext, null]));
  peer.write(...asked.map(({ frame }) => frame));
  return Promise.all(asked.map(({ answer }) => answer));
}

function areOf(t: ExecutionContext, answers: readonly Answer[], messages: readonly Sealed[]): void {
  for (const [index, { error, results }] of answers.entries()) {
    t.is(error, undefined);
    t.deepEqual(Buffer.from(results[0] as Uint8Array), messages[index]!.plaintext);
  }
}

test('messages of many keys that are not in the vault are opened, each as it is, without one of them waiting', async (t) => {
  const own = await ground(t, 400, 300);
  const { kms } = own.daemon;
  await kms.rotateKek({ wait: true });
  t.true(kms.cachedKeys < 50, 'a rotation leaves the keys out of the vault');
  const fetch = kms.fetchKey.bind(kms);
  let fetched = 0;
  kms.fetchKey = (keyId) => {
    fetched += 1;
    return fetch(keyId);
  };
  areOf(t, await opened(own, own.messages), own.messages);
  t.is(fetched, 0);
  t.true(kms.cachedKeys >= 300);
});

test('with room for a handful of keys every message of a chunk is still answered', async (t) => {
  const own = await ground(t, 5, 60);
  const twice = [...own.messages, ...own.messages];
  areOf(t, await opened(own, twice), twice);
  t.true(own.daemon.kms.cachedKeys <= 5);
});

test('among missing keys, one that is disabled, destroyed or unknown has its own answer, and the others serve', async (t) => {
  const own = await ground(t, 400, 20);
  const { kms } = own.daemon;
  const [disabled, destroyed] = own.messages.map(({ keyId }) => keyId);
  await kms.disableKey(disabled!);
  await kms.disableKey(destroyed!);
  await kms.destroyKey(destroyed!);
  await kms.rotateKek({ wait: true });
  const { ciphertext } = own.messages[5]!;
  const strangers = [
    { keyId: `k_${'0'.repeat(32)}`, ciphertext },
    { keyId: 'no key id', ciphertext },
  ];
  const answers = await opened(own, [...own.messages, ...strangers]);
  t.deepEqual(
    [answers[0], answers[1], answers[20], answers[21]].map((answer) => answer!.error?.code),
    ['KEY_DISABLED', 'KEY_DESTROYED', 'KEY_NOT_FOUND', 'INVALID_ARGUMENT'],
  );
  areOf(t, answers.slice(2, 20), own.messages.slice(2));
});

test('keys at hand are counted by a look at each', async (t) => {
  const { daemon, messages } = await ground(t, 10, 3);
  const { kms } = daemon;
  await kms.disableKey(messages[0]!.keyId);
  const { keys, next } = await kms.glance(undefined);
  t.is(next, null);
  t.deepEqual(keys.map(({ state }) => state).sort(), ['active', 'active', 'disabled']);
  const listed = (await kms.listKeys()).keys.map(({ state, createdAt, createdBy }) => ({ state, createdAt, createdBy }));
  t.deepEqual(keys, listed);
  t.deepEqual(
    (
      await kms.glance(
        messages
          .map(({ keyId }) => keyId)
          .sort()
          .at(-1),
      )
    ).keys,
    [],
  );
});

test('a message whose key is missing is answered before a broken frame ends the connection', async (t) => {
  const own = await ground(t, 2, 6);
  const { kms } = own.daemon;
  const [message] = own.messages;
  const peer = await own.connect();
  const asked = peer.prepare(OP.decrypt, [message!.keyId, message!.ciphertext, null]);
  const broken = peer.prepare(OP.describeKey, [0]);
  // A byte that no value begins with.
  broken.frame[broken.frame.length - 1] = 0xc1;
  t.true(kms.cachedKeys <= 2);
  peer.write(asked.frame, broken.frame);
  await peer.closed;
  areOf(t, [await asked.answer], [message!]);
  t.deepEqual(
    peer.answers.map(({ id, error }) => [id, error?.code]),
    [
      [(await asked.answer).id, undefined],
      [NO_REQUEST, 'INVALID_ARGUMENT'],
    ],
    'who reads what ends it reads no further',
  );
});
