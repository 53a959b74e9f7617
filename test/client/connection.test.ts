import { getEventListeners } from 'node:events';
import test from 'ava';
import fc from 'fast-check';
import { KmsError } from '../../dist/errors.js';
import { echo, FakeServer, frameOf, marked, until } from './fake-server.js';

const KEY = `k_${'0'.repeat(32)}`;
const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);

/** Runs against a fake server of its own, with every client closed at the end. */
async function withServer(run: (server: FakeServer) => Promise<void>): Promise<void> {
  const server = await new FakeServer().listen();
  try {
    await run(server);
  } finally {
    await server.remove();
  }
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'resolved';
  } catch (error) {
    if (!(error instanceof KmsError)) throw error;
    return error.code;
  }
}

test('many requests at once each get their own answer, in one write per turn', async (t) => {
  await withServer(async (server) => {
    const kms = server.client();
    let chunks = 0;
    server.onConnection = (socket) => socket.on('data', () => chunks++);
    const inputs = Array.from({ length: 1000 }, (_, index) => Buffer.from(`message ${index}`));
    const results = await Promise.all(inputs.map((input, index) => kms.encryptWithDek(KEY, input, Buffer.from([index & 255]))));
    results.forEach(({ ciphertext, keyVersion }, index) => {
      t.deepEqual(Buffer.from(ciphertext), Buffer.concat([Buffer.from([index & 255]), inputs[index]!]));
      t.is(keyVersion, '1');
    });
    // 1,000 requests of about 60 bytes: one write, which the reader takes in 64 KiB pieces.
    t.true(chunks < 10, `${chunks}`);
    await kms.close();
  });
});

test('answers in any order reach their own requests', async (t) => {
  await withServer(async (server) => {
    const kms = server.client();
    server.onRequest = () => {
      if (server.requests.length < 50) return;
      for (const request of server.requests.splice(0).reverse()) echo(request);
    };
    const results = await Promise.all(Array.from({ length: 50 }, (_, index) => kms.decryptWithDek(KEY, Buffer.from([index]))));
    t.deepEqual(
      results.map((result) => result[0]),
      Array.from({ length: 50 }, (_, index) => index),
    );
    await kms.close();
  });
});

test('answers cut at every byte boundary are read whole', async (t) => {
  await withServer(async (server) => {
    const kms = server.client();
    const requests = 4;
    server.onRequest = (last) => {
      if (server.requests.length < requests) return;
      const all = Buffer.concat(server.requests.splice(0).map(({ id, args }) => frameOf([id, 0, args[1], '12'])));
      cut(last.socket, all);
    };
    let at = 0;
    let size = 0;
    function cut(socket: import('node:net').Socket, all: Buffer): void {
      size = all.length;
      socket.setNoDelay?.();
      socket.write(all.subarray(0, at), () => setImmediate(() => socket.write(all.subarray(at))));
    }
    do {
      const inputs = Array.from({ length: requests }, (_, index) => Buffer.from(`abc${index}`));
      const results = await Promise.all(inputs.map((input) => kms.encryptWithDek(KEY, input)));
      t.deepEqual(
        results.map(({ ciphertext }) => Buffer.from(ciphertext)),
        inputs,
      );
      at++;
    } while (at < size);
    t.true(size > 50);
    await kms.close();
  });
});

test('answers of any size in chunks of any size are read whole, and stay as they are', async (t) => {
  t.log(`seed ${seed}`);
  await withServer(async (server) => {
    const kms = server.client();
    const sizes = fc.array(fc.oneof(fc.nat(200), fc.nat(5_000), fc.nat(400_000)), { minLength: 1, maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(sizes, fc.integer({ min: 1, max: 300_000 }), async (lengths, step) => {
        server.onRequest = ({ socket }) => {
          if (server.requests.length < lengths.length) return;
          const all = Buffer.concat(server.requests.splice(0).map(({ id, args }) => frameOf([id, 0, args[1]])));
          for (let at = 0; at < all.length; at += Math.max(step, all.length >> 6)) {
            socket.write(all.subarray(at, at + Math.max(step, all.length >> 6)));
          }
        };
        const inputs = lengths.map((length, index) => Buffer.alloc(length, index + 1));
        const results = await Promise.all(inputs.map((input) => kms.decryptWithDek(KEY, input)));
        for (const [index, result] of results.entries()) t.is(Buffer.compare(result, inputs[index]!), 0);
      }),
      { seed, numRuns: 40 },
    );
    await kms.close();
  });
});

test('a result is not changed by the answers that come after it', async (t) => {
  await withServer(async (server) => {
    const kms = server.client();
    const first = await kms.decryptWithDek(KEY, Buffer.alloc(1000, 1));
    for (let index = 2; index < 600; index++) await kms.decryptWithDek(KEY, Buffer.alloc(1000, index));
    t.true(first.every((byte) => byte === 1));
    await kms.close();
  });
});

test('a message of the largest size goes both ways, one byte more is refused here', async (t) => {
  await withServer(async (server) => {
    const kms = server.client();
    server.onRequest = (request) => request.answer(request.args[1]);
    const largest = Buffer.alloc(15 * 1024 * 1024, 5);
    t.is(Buffer.compare(await kms.decryptWithDek(KEY, largest), largest), 0);
    t.is(server.requests.length, 1);
    const tooLarge = new Uint8Array(largest.length + 1);
    t.is(await codeOf(kms.encryptWithDek(KEY, tooLarge)), 'TOO_LARGE');
    t.is(await codeOf(kms.encrypt(tooLarge)), 'TOO_LARGE');
    t.is(await codeOf(kms.encryptMany(KEY, [largest, largest])), 'TOO_LARGE');
    t.is(await codeOf(kms.encryptWithDek(KEY, new Uint8Array(1), new Uint8Array(65_537))), 'TOO_LARGE');
    t.is(server.requests.length, 1);
    await kms.close();
  });
});

test('a deadline ends the call, and its late answer reaches nobody', async (t) => {
  await withServer(async (server) => {
    const kms = server.client();
    await kms.encryptWithDek(KEY, Buffer.from('warm'));
    server.requests.length = 0;
    server.onRequest = () => {};
    const late = kms.encryptWithDek(KEY, Buffer.from('late'), undefined, { deadlineMs: 20 });
    t.is(await codeOf(late), 'DEADLINE_EXCEEDED');
    await until(() => server.requests.length === 1);
    server.onRequest = (request) => {
      echo(server.requests[0]!);
      echo(request);
    };
    const { ciphertext } = await kms.encryptWithDek(KEY, Buffer.from('next'));
    t.is(Buffer.from(ciphertext).toString(), 'next');
    t.not(server.requests[0]!.id, server.requests[1]!.id);
    server.onRequest = echo;
    t.is(Buffer.from((await kms.encryptWithDek(KEY, Buffer.from('again'))).ciphertext).toString(), 'again');
    await kms.close();
  });
});

test('a second answer to one request ends the connection instead of reaching a stranger', async (t) => {
  await withServer(async (server) => {
    const kms = server.client();
    await kms.encryptWithDek(KEY, Buffer.from('first'));
    server.onRequest = () => echo(server.requests[0]!);
    const next = await t.throwsAsync(kms.encryptWithDek(KEY, Buffer.from('second')), { instanceOf: KmsError });
    t.is(next?.code, 'STORE_UNAVAILABLE');
    t.regex(next!.message, /an answer to no request/);
    await kms.close();
  });
});

test('an aborted signal ends its own call alone and leaves no listener', async (t) => {
  await withServer(async (server) => {
    const kms = server.client();
    const controller = new AbortController();
    const { signal } = controller;
    const listeners = () => getEventListeners(signal, 'abort').length;
    const many = Array.from({ length: 20 }, () => kms.encryptWithDek(KEY, Buffer.from('a'), undefined, { signal }));
    // One for all: Node warns of more than ten.
    t.is(listeners(), 1);
    await Promise.all(many);
    t.is(listeners(), 0);

    t.is(server.requests.length, 20);
    server.onRequest = (request) => {
      if (server.requests.length === 22) controller.abort(new Error('enough'));
      if (Buffer.from(request.args[1] as Uint8Array).toString() === 'other') setTimeout(() => echo(request), 20);
    };
    const aborted = kms.encryptWithDek(KEY, Buffer.from('a'), undefined, { signal });
    const other = kms.encryptWithDek(KEY, Buffer.from('other'));
    const error = await t.throwsAsync(aborted, { instanceOf: KmsError });
    t.is(error?.code, 'DEADLINE_EXCEEDED');
    t.regex(error!.message, /aborted/);
    t.is((error!.cause as Error).message, 'enough');
    t.is(Buffer.from((await other).ciphertext).toString(), 'other');
    t.is(listeners(), 0);
    t.is(await codeOf(kms.encryptWithDek(KEY, Buffer.from('a'), undefined, { signal })), 'DEADLINE_EXCEEDED');
    t.is(server.requests.length, 22);
    await kms.close();
  });
});

test('a deadline that is no number or already over is refused without a request', async (t) => {
  await withServer(async (server) => {
    const kms = server.client();
    const ask = (deadlineMs: number) => codeOf(kms.createDek(undefined, { deadlineMs }));
    t.is(await ask(Number.NaN), 'INVALID_ARGUMENT');
    t.is(await ask('5' as unknown as number), 'INVALID_ARGUMENT');
    t.is(await ask(0), 'DEADLINE_EXCEEDED');
    t.is(server.requests.length, 0);
    await kms.close();
  });
});

test('a connection that breaks rejects what was written, sends nothing twice, and is made anew for the next call', async (t) => {
  await withServer(async (server) => {
    const kms = server.client();
    server.onRequest = ({ socket }) => socket.destroy();
    const broken = await Promise.allSettled([1, 2, 3].map((n) => kms.encryptWithDek(KEY, Buffer.from([n]))));
    for (const result of broken) {
      t.is(result.status, 'rejected');
      t.is(((result as PromiseRejectedResult).reason as KmsError).code, 'STORE_UNAVAILABLE');
      t.regex(((result as PromiseRejectedResult).reason as KmsError).message, /connection to the key service was lost/);
    }
    server.onRequest = echo;
    server.requests.length = 0;
    t.is((await kms.encryptWithDek(KEY, Buffer.from([9]))).ciphertext[0], 9);
    t.is(server.requests.length, 1);
    t.is(server.connections, 2);
    await kms.close();
  });
});

test('requests made while nobody serves wait for the server that comes back', async (t) => {
  await withServer(async (server) => {
    const kms = server.client();
    await kms.encryptWithDek(KEY, Buffer.from('x'));
    await server.stop();
    // The first calls may still meet the dying connection.
    let seen = '';
    while (!/cannot connect|lost/.test(seen)) {
      seen = await kms.createDek(undefined, { deadlineMs: 20 }).then(String, (error: Error) => error.message);
    }
    const waiting = Array.from({ length: 5 }, (_, index) => kms.encryptWithDek(KEY, Buffer.from([index])));
    const overdue = kms.createDek('never-sent', { deadlineMs: 30 });
    const error = await t.throwsAsync(overdue, { instanceOf: KmsError });
    t.is(error?.code, 'DEADLINE_EXCEEDED');
    t.regex(error!.message, /ENOENT|ECONNREFUSED|lost/);
    await server.listen();
    const results = await Promise.all(waiting);
    t.deepEqual(
      results.map(({ ciphertext }) => ciphertext[0]),
      [0, 1, 2, 3, 4],
    );
    t.false(
      server.requests.some(({ op }) => op === 11),
      'a request whose caller gave up was sent',
    );
    await kms.close();
  });
});

test('a server of a uid that is not trusted gets not one byte', async (t) => {
  await withServer(async (server) => {
    let bytes = 0;
    server.onConnection = (socket) => socket.on('data', (chunk) => (bytes += chunk.length));
    const kms = server.client({ peerOf: () => ({ uid: 4242 }) });
    const error = await t.throwsAsync(kms.encryptWithDek(KEY, Buffer.from('secret')), { instanceOf: KmsError });
    t.is(error?.code, 'PERMISSION_DENIED');
    t.regex(error!.message, /uid 4242/);
    await until(() => server.connections === 1 && server.sockets.size === 0);
    t.is(bytes, 0);
    await kms.close();

    const trusting = server.client({ peerOf: () => ({ uid: 4242 }), trusts: (uid) => uid === 4242 });
    t.is((await trusting.encryptWithDek(KEY, Buffer.from([1]))).ciphertext[0], 1);
    await trusting.close();
  });
});

test('a server that closes at once is told of as such, and is not stormed', async (t) => {
  await withServer(async (server) => {
    server.onConnection = (socket) => socket.destroy();
    const kms = server.client({ reconnectMinMs: 50, reconnectMaxMs: 50 });
    const outcomes = new Set<string>();
    for (let index = 0; index < 3; index++) outcomes.add(await codeOf(kms.encryptWithDek(KEY, Buffer.from('x'))));
    t.deepEqual([...outcomes], ['STORE_UNAVAILABLE']);
    t.true(server.connections <= 3);
    await kms.close();
  });
});

const garbage: Record<string, Buffer> = {
  'an HTTP answer': Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'),
  'a frame of length 0': Buffer.alloc(4),
  'a frame that is not MessagePack': Buffer.from('00000001c1', 'hex'),
  'a frame that is no array': Buffer.from('0000000107', 'hex'),
  'an answer to nobody': frameOf([5, 0, new Uint8Array(1), '1']),
  'an id that is a text': frameOf(['5', 0, new Uint8Array(1), '1']),
};
for (const [name, bytes] of Object.entries(garbage)) {
  test(`${name} from the server ends the connection with a clear error`, async (t) => {
    await withServer(async (server) => {
      const kms = server.client();
      server.onRequest = ({ socket }) => socket.write(bytes);
      const error = await t.throwsAsync(kms.encryptWithDek(KEY, Buffer.from('x')), { instanceOf: KmsError });
      t.is(error?.code, 'STORE_UNAVAILABLE');
      t.regex(error!.message, /not the protocol/);
      server.onRequest = echo;
      t.is((await kms.encryptWithDek(KEY, Buffer.from([7]))).ciphertext[0], 7);
      await kms.close();
    });
  });
}

const misshapen: Record<string, unknown[]> = {
  'a result too few': [0, new Uint8Array(3)],
  'a result too many': [0, new Uint8Array(3), '1', '1'],
  'a text for a binary': [0, 'abc', '1'],
  'a code that nobody sends with one message': [3],
  'a float for a code': [0.5, 'x'],
};
for (const [name, rest] of Object.entries(misshapen)) {
  test(`an answer with ${name} ends the connection with a clear error`, async (t) => {
    await withServer(async (server) => {
      const kms = server.client();
      server.onRequest = ({ id, socket }) => socket.write(frameOf([id, ...rest]));
      const error = await t.throwsAsync(kms.encryptWithDek(KEY, Buffer.from('x')), { instanceOf: KmsError });
      t.is(error?.code, 'STORE_UNAVAILABLE');
      await kms.close();
    });
  });
}

test('random bytes from the server never crash the client', async (t) => {
  t.log(`seed ${seed}`);
  await withServer(async (server) => {
    const kms = server.client({ deadlineMs: 40, reconnectMinMs: 1, reconnectMaxMs: 1 });
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 60 }), fc.boolean(), async (bytes, framed) => {
        const header = Buffer.alloc(framed ? 4 : 0);
        if (framed) header.writeUInt32BE(bytes.length);
        server.onRequest = ({ socket }) => socket.write(Buffer.concat([header, bytes]));
        t.not(await codeOf(kms.encryptWithDek(KEY, Buffer.from('x'))), 'INTERNAL');
      }),
      { seed, numRuns: 100 },
    );
    await kms.close();
  });
});

test('a refusal of the whole stream is handed on with its message', async (t) => {
  await withServer(async (server) => {
    const kms = server.client();
    server.onRequest = ({ socket }) => socket.end(frameOf([0, 3, 'invalid argument: the frame']));
    await t.throwsAsync(kms.encryptWithDek(KEY, Buffer.from('x')), { message: /gave up: invalid argument: the frame/ });
    await kms.close();
  });
});

test('what waits for a server that does not read is bounded, and the rest is refused as busy', async (t) => {
  await withServer(async (server) => {
    const kms = server.client({ maxQueuedBytes: 4 * 1024 * 1024 });
    server.onConnection = (socket) => socket.pause();
    const calls = Array.from({ length: 20 }, () => codeOf(kms.encryptWithDek(KEY, Buffer.alloc(1024 * 1024, 1))));
    t.is(await calls[19], 'BUSY');
    for (const socket of server.sockets) socket.resume();
    await until(() => server.sockets.size === 1);
    for (const socket of server.sockets) socket.resume();
    const codes = await Promise.all(calls);
    t.deepEqual([...new Set(codes)].sort(), ['BUSY', 'resolved']);
    t.true(codes.filter((code) => code === 'resolved').length >= 3);
    await kms.close();
  });
});

test('one more request than may be under way is refused as busy', async (t) => {
  await withServer(async (server) => {
    const kms = server.client({ maxInFlight: 3 });
    const codes = await Promise.all(Array.from({ length: 4 }, () => codeOf(kms.encryptWithDek(KEY, Buffer.from('x')))));
    t.deepEqual(codes, ['resolved', 'resolved', 'resolved', 'BUSY']);
    t.is(await codeOf(kms.encryptWithDek(KEY, Buffer.from('x'))), 'resolved');
    await kms.close();
  });
});

test('a server that takes requests and never answers loses its connection', async (t) => {
  await withServer(async (server) => {
    const kms = server.client({ maxInFlight: 4, deadlineMs: 20 });
    await kms.encryptWithDek(KEY, Buffer.from('warm'), undefined, { deadlineMs: 60_000 });
    server.onRequest = () => {};
    await Promise.all(Array.from({ length: 3 }, () => codeOf(kms.encryptWithDek(KEY, Buffer.from('x')))));
    server.onRequest = echo;
    t.is((await kms.encryptWithDek(KEY, Buffer.from([3]), undefined, { deadlineMs: 60_000 })).ciphertext[0], 3);
    t.is(server.connections, 2);
    await kms.close();
  });
});

test('close rejects what is under way and every later call', async (t) => {
  await withServer(async (server) => {
    const kms = server.client();
    server.onRequest = () => {};
    const pending = codeOf(kms.encryptWithDek(KEY, Buffer.from('x')));
    await until(() => server.requests.length === 1);
    await kms.close();
    await kms.close();
    t.is(await pending, 'SEALED');
    t.is(await codeOf(kms.encryptWithDek(KEY, Buffer.from('x'))), 'SEALED');
    t.is(await codeOf(kms.describeKey(KEY)), 'SEALED');
    await until(() => server.sockets.size === 0);
  });
});

test('the data given may be changed as soon as the call has returned', async (t) => {
  await withServer(async (server) => {
    const kms = server.client();
    const data = Buffer.from('before');
    const promise = kms.encryptWithDek(KEY, data);
    data.fill(0);
    t.deepEqual(Buffer.from((await promise).ciphertext), Buffer.from(marked(Buffer.from('before'), null)));
    await kms.close();
  });
});
