import test from 'ava';
import { connectKms } from '../../dist/client/index.js';
import { SlotTable } from '../../dist/client/slots.js';
import { KmsError } from '../../dist/errors.js';
import type { CallOptions } from '../../dist/provider.js';
import { FakeServer } from './fake-server.js';

const KEY = `k_${'0'.repeat(32)}`;

test('a signal that is none is refused, takes no place, and nothing comes of it later', async (t) => {
  const server = await new FakeServer().listen();
  t.teardown(() => server.remove());
  const kms = server.client({ maxInFlight: 2 });
  t.teardown(() => kms.close());
  const uncaught: Error[] = [];
  const onUncaught = (error: Error) => uncaught.push(error);
  process.on('uncaughtException', onUncaught);
  t.teardown(() => process.off('uncaughtException', onUncaught));

  for (const signal of [{}, { aborted: false }, null, 'signal', 0, new EventTarget(), new AbortController()]) {
    const options = { signal, deadlineMs: 30 } as unknown as CallOptions;
    for (const call of [
      () => kms.encryptWithDek(KEY, Buffer.from('x'), undefined, options),
      () => kms.encryptMany(KEY, [Buffer.from('x')], undefined, options),
      () => kms.createDek(undefined, options),
    ]) {
      const error = await t.throwsAsync(call, { instanceOf: KmsError });
      t.is(error?.code, 'INVALID_ARGUMENT');
      t.regex(error?.message ?? '', /signal/);
    }
  }
  // Past the deadlines, and past the look at them.
  await new Promise((wake) => setTimeout(wake, 100));
  t.deepEqual(uncaught, []);
  t.is(server.requests.length, 0);
  const both = await Promise.all([1, 2].map((n) => kms.decryptWithDek(KEY, Buffer.of(n))));
  t.deepEqual(
    both.map((result) => result[0]),
    [1, 2],
    'as many as may be under way still may',
  );
});

test('options that are null are none', async (t) => {
  const server = await new FakeServer().listen();
  t.teardown(() => server.remove());
  const kms = server.client();
  t.teardown(() => kms.close());
  const none = null as unknown as CallOptions;
  t.is((await kms.decryptWithDek(KEY, Buffer.of(7), undefined, none))[0], 7);
  t.is((await kms.decryptMany(KEY, [Buffer.of(7)], undefined, none)).length, 1);
});

test('a limit of requests that is no whole number still ends before the ids do', (t) => {
  const table = new SlotTable(65_535.5);
  const indices = new Set<number>();
  for (let taken = 0; taken < 65_536; taken += 1) indices.add(table.take()!.id & 0xffff);
  t.is(indices.size, 65_536);
  t.is(table.take(), undefined);
});

test('options of a connection that are no whole numbers within their bounds are refused before anything is dialled', async (t) => {
  const socket = '/nonexistent/kms.sock';
  const most = { connectTimeoutMs: 2 ** 31 - 1, deadlineMs: 2 ** 31 - 1, reconnectMinMs: 2 ** 31 - 1, maxInFlight: 65_536 };
  for (const name of Object.keys(most) as Array<keyof typeof most>) {
    for (const value of [0, -1, 0.5, 2.5, Number.NaN, Number.POSITIVE_INFINITY, most[name] + 1, '5', null]) {
      const error = await t.throwsAsync(connectKms({ socket, [name]: value as number }), { instanceOf: KmsError });
      t.is(error?.code, 'INVALID_ARGUMENT', `${name} ${value}`);
      t.true(error?.message.includes(name));
    }
    const allowed = await t.throwsAsync(connectKms({ socket, [name]: most[name] }), { instanceOf: KmsError });
    t.is(allowed?.code, 'STORE_UNAVAILABLE', `${name} at its bound is taken, and nobody is there`);
  }
});
