import { createHash, generateKeyPairSync, verify } from 'node:crypto';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import { binding } from '../../dist/native.js';
import { refusedSync } from '../provider/refused.js';
import { BOOT, chainFor, NONE, STORE, vaultFor } from './ground.js';
import { Epoch, isSigned, keyOf, linesOf, openEpochKey } from './lines.js';

const ZEROS = '0'.repeat(64);
const CREATE = '"type":"create_dek","actor":"uid:1000","key_id":"k_1","thread_id":"a}b\\"{","outcome":"ok","generation":3';

function auditor() {
  const { privateKey, publicKey } = generateKeyPairSync('x25519');
  return { privateKey, raw: publicKey.export({ format: 'der', type: 'spki' }).subarray(-32) };
}

test('each line names the one before it, and only who has the epoch key can say what its signature is', (t) => {
  const chain = chainFor(t, vaultFor(t));
  const { privateKey, raw } = auditor();
  const sealed = chain.sealEpochKey(raw);
  t.is(sealed.length, 92);
  const before = Date.now();
  const made = Array.from({ length: 20 }, (_, i) => chain.line(`${CREATE},"n":${i}`));
  const lines = linesOf(Buffer.concat(made));
  const epoch = new Epoch(openEpochKey(sealed, privateKey, raw, STORE, BOOT));
  let prev = ZEROS;
  for (const [i, line] of lines.entries()) {
    const { time, ...event } = line.event;
    t.deepEqual(event, {
      seq: i + 1,
      boot: BOOT,
      prev,
      type: 'create_dek',
      actor: 'uid:1000',
      key_id: 'k_1',
      thread_id: 'a}b"{',
      outcome: 'ok',
      generation: 3,
      n: i,
    });
    t.deepEqual(Object.keys(line.event).slice(0, 6), ['seq', 'time', 'boot', 'prev', 'type', 'actor']);
    t.is(new Date(Date.parse(time as string)).toISOString(), time as string);
    t.true(Date.parse(time as string) >= before && Date.parse(time as string) <= Date.now());
    t.true(epoch.matches(line), `line ${i + 1}`);
    t.is(line.ed25519, undefined);
    prev = line.hash;
  }
  t.is(lines.length, 20);
  const head = chain.head();
  t.deepEqual([head.seq, Buffer.from(head.prev).toString('hex')], [20, prev]);
  t.false(new Epoch(openEpochKey(sealed, privateKey, raw, STORE, BOOT)).matches(lines[1]!), 'the key went on');
});

test('lines that are made together follow each other, up to the first that cannot be', (t) => {
  const chain = chainFor(t, vaultFor(t));
  const { privateKey, raw } = auditor();
  const epoch = new Epoch(openEpochKey(chain.sealEpochKey(raw), privateKey, raw, STORE, BOOT));
  const lines = linesOf(
    Buffer.concat([chain.line(CREATE), chain.lines([`${CREATE},"n":1`, `${CREATE},"n":2`]), chain.line(CREATE)]),
  );
  t.deepEqual(
    lines.map(({ event }) => event['n']),
    [undefined, 1, 2, undefined],
  );
  let prev = ZEROS;
  for (const [index, line] of lines.entries()) {
    t.like(line.event, { seq: index + 1, prev });
    t.true(epoch.matches(line), `line ${index + 1}`);
    prev = line.hash;
  }
  t.is(chain.lines([]).length, 0);
  const long = `${CREATE},"x":"${'x'.repeat(8_192)}"`;
  t.is(linesOf(Buffer.from(chain.lines([CREATE, long, CREATE]))).length, 1);
  t.is(chain.head().seq, 5);
  refusedSync(t, () => chain.lines([long, CREATE]), 'TOO_LARGE', /at most 8,192 bytes/);
  refusedSync(t, () => chain.lines([CREATE, '"type":"x"}']), 'INVALID_ARGUMENT', /members of an audit line/);
  refusedSync(t, () => chain.lines([CREATE, 1 as unknown as string]), 'INVALID_ARGUMENT', /arguments of a call/);
  t.is(chain.head().seq, 5, 'what is refused is no line');
});

test('every chain has an epoch key of its own, and goes on after the line it is told', (t) => {
  const vault = vaultFor(t);
  const { privateKey, raw } = auditor();
  const keys = new Set<string>();
  const prev = createHash('sha256').update('the last').digest();
  for (let i = 0; i < 3; i += 1) {
    const chain = chainFor(t, vault, { seq: 41, prev });
    keys.add(openEpochKey(chain.sealEpochKey(raw), privateKey, raw, STORE, BOOT).toString('hex'));
    const [line] = linesOf(chain.line(CREATE));
    t.deepEqual([line!.event.seq, line!.event.prev], [42, prev.toString('hex')]);
  }
  t.is(keys.size, 3);
  const last = chainFor(t, vault, { seq: 2 ** 53 - 2, prev });
  t.is(linesOf(last.line(CREATE))[0]!.event.seq, 2 ** 53 - 1);
  refusedSync(t, () => last.line(CREATE), 'INTERNAL', /at its end/);
});

test('a sealed epoch key opens for its auditor, store and boot alone', (t) => {
  const chain = chainFor(t, vaultFor(t));
  const { privateKey, raw } = auditor();
  const other = auditor();
  const sealed = chain.sealEpochKey(raw);
  t.is(openEpochKey(sealed, privateKey, raw, STORE, BOOT).length, 32);
  const refusing: Array<[string, () => unknown]> = [
    ['another auditor', () => openEpochKey(sealed, other.privateKey, other.raw, STORE, BOOT)],
    ['another store', () => openEpochKey(sealed, privateKey, raw, STORE.replace('0', '1'), BOOT)],
    ['another boot', () => openEpochKey(sealed, privateKey, raw, STORE, BOOT.replace('0', '1'))],
  ];
  for (const [about, open] of refusing) t.throws(open, undefined, about);
  t.notDeepEqual(chain.sealEpochKey(raw), sealed, 'each time with a fresh pair');
});

test('an epoch key is sealed before its first line or not at all, and never to a key of low order', (t) => {
  const chain = chainFor(t, vaultFor(t));
  const lowOrder = ['00'.repeat(32), `01${'00'.repeat(31)}`, 'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800'];
  for (const key of lowOrder)
    refusedSync(t, () => chain.sealEpochKey(Buffer.from(key, 'hex')), 'INVALID_ARGUMENT', /X25519/, key);
  for (const length of [0, 31, 33])
    refusedSync(t, () => chain.sealEpochKey(new Uint8Array(length)), 'INVALID_ARGUMENT', /X25519/);
  chain.line(CREATE);
  refusedSync(t, () => chain.sealEpochKey(auditor().raw), 'CONFLICT', /has lines/);
});

test('a signed line is signed over its store and event, by the key that it was given', (t) => {
  const vault = vaultFor(t);
  const chain = chainFor(t, vault);
  const first = vault.generateSigning();
  const second = vault.generateSigning();
  t.notDeepEqual(first.publicKey, second.publicKey);
  const [line] = linesOf(chain.line('"type":"checkpoint","actor":"uid:0","generation":1,"lines":7', first.handle));
  t.true(isSigned(line!, STORE, first.publicKey));
  t.false(isSigned(line!, STORE, second.publicKey));
  t.false(isSigned(line!, STORE.replace('0', '1'), first.publicKey));
  const dek = vault.generate('dek');
  refusedSync(t, () => chain.line(CREATE, dek), 'INVALID_ARGUMENT', /not a signing key/);
  refusedSync(t, () => vault.publicKeyOf(dek), 'INVALID_ARGUMENT');
  vault.release(first.handle);
  refusedSync(t, () => chain.line(CREATE, first.handle), 'INVALID_ARGUMENT', /not a signing key/);
  const [next] = linesOf(chain.line(CREATE, second.handle));
  t.deepEqual([next!.event.seq, next!.event.prev], [2, line!.hash], 'what was refused is no line');
  t.true(isSigned(next!, STORE, second.publicKey));
});

test('a signing key comes back from its wrapping, and signs what it signed', (t) => {
  const vault = vaultFor(t);
  const root = vault.generate('root');
  const made = vault.generateSigning();
  const wrapped = vault.wrap(root, made.handle, Buffer.from('place'));
  vault.release(made.handle);
  const again = vault.unwrap(root, wrapped, Buffer.from('place'), 'signing');
  t.deepEqual(vault.publicKeyOf(again), made.publicKey);
  refusedSync(t, () => vault.unwrap(root, wrapped, Buffer.from('elsewhere'), 'signing'), 'AUTHENTICATION_FAILED');
});

test('the private key of RFC 8032 has the public key and the signature that stand there', (t) => {
  const vault = vaultFor(t);
  const hex = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));
  const seed = hex('9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60');
  const handle = binding.importKey(vault.space, 'signing', seed);
  const publicKey = vault.publicKeyOf(handle);
  t.deepEqual(publicKey, hex('d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a'));
  t.true(seed.every((byte) => byte === 0));
  const [line] = linesOf(chainFor(t, vault).line(CREATE, handle));
  const message = Buffer.concat([Buffer.from(`progressdb-kms/audit/v1\0${STORE}\0`), line!.bytes]);
  t.true(verify(null, message, keyOf('ed25519', publicKey), Buffer.from(line!.ed25519!, 'base64')));
});

test('nothing that is written into a line ends its event, the line, or the bound of its length', (t) => {
  const chain = chainFor(t, vaultFor(t));
  const refusing = [
    '',
    '"typ":"stop"',
    ' "type":"stop"',
    '"type": "stop"',
    '"type":"stop","actor":"a\nb"',
    '"type":"stop","actor":"a\u0001b"',
    '"type":"stop","actor":"a\u0000b"',
    '"type":"stop"},"sig":"x"',
    '"type":"stop","a":]',
    '"type":"stop","a":{',
    '"type":"stop',
    '"type":"stop\\"',
  ];
  for (const members of refusing) refusedSync(t, () => chain.line(members), 'INVALID_ARGUMENT', /members/, members);
  const room = 8_192 - chain.line('"type":"stop","actor":""').length - 1;
  const long = (length: number) => `"type":"stop","actor":"${'a'.repeat(length)}"`;
  refusedSync(t, () => chain.line(long(room + 2)), 'TOO_LARGE', /8,192/);
  const { seq } = chain.head();
  const longest = chain.line(long(room + 1));
  t.is(longest.length, 8_192);
  t.is(linesOf(longest)[0]!.event.seq, seq + 1, 'what was refused is no line');
  t.deepEqual(
    linesOf(chain.line('"type":"stop","actor":"ä€","a":{"b":[1,2]}')).map(({ event }) => event.actor),
    ['ä€'],
  );
});

test('a chain is sealed with its space, and after its close', (t) => {
  const vault = vaultFor(t);
  const { used } = binding.arenaInfo();
  const closed = vault.openChain(STORE, BOOT, NONE);
  const open = vault.openChain(STORE, BOOT, NONE);
  t.is(binding.arenaInfo().used, used + 2);
  closed.close();
  closed.close();
  t.is(binding.arenaInfo().used, used + 1, 'its key is wiped');
  open.line(CREATE);
  vault.close();
  for (const chain of [closed, open]) {
    refusedSync(t, () => chain.line(CREATE), 'SEALED');
    refusedSync(t, () => chain.head(), 'SEALED');
    refusedSync(t, () => chain.sealEpochKey(auditor().raw), 'SEALED');
  }
  open.close();
  refusedSync(t, () => vault.openChain(STORE, BOOT, NONE), 'SEALED');
  refusedSync(t, () => binding.openChain(vault.space, STORE, BOOT, 0, NONE.prev), 'SEALED');
});

test('a chain begins with a store, a boot, a number and a hash', (t) => {
  const { space } = vaultFor(t);
  const good: [string, string, number, Uint8Array] = [STORE, BOOT, 0, NONE.prev];
  const wrong: Array<[number, unknown]> = [
    [0, STORE.slice(1)],
    [0, STORE.toUpperCase()],
    [1, `${BOOT}0`],
    [1, 'g'.repeat(16)],
    [2, -1],
    [2, 0.5],
    [2, 2 ** 53],
    [3, new Uint8Array(31)],
    [3, 'x'],
  ];
  for (const [place, value] of wrong) {
    const args = good.map((one, i) => (i === place ? value : one)) as typeof good;
    refusedSync(t, () => binding.openChain(space, ...args), 'INVALID_ARGUMENT', /./, String(value));
  }
});

// Alone: it counts what is in the arena while it waits.
test.serial('a thread that ends takes its chains with it', async (t) => {
  vaultFor(t);
  const { used } = binding.arenaInfo();
  const code = `import('${new URL('../../dist/vault.js', import.meta.url)}').then(({ Vault }) => {
    const vault = Vault.open({ arenaBytes: 1 << 20, keptContexts: 64 }, 64);
    vault.openChain('${STORE}', '${BOOT}', { seq: 0, prev: new Uint8Array(32) });
    require('node:worker_threads').parentPort.postMessage('open');
    setInterval(() => {}, 1000);
  })`;
  const worker = new Worker(code, { eval: true });
  t.teardown(() => worker.terminate());
  await new Promise((resolve) => worker.once('message', resolve));
  t.is(binding.arenaInfo().used, used + 1);
  await worker.terminate();
  t.is(binding.arenaInfo().used, used);
});
