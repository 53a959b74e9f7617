import { randomBytes } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import { binding } from '../../dist/native.js';
import { OP } from '../../dist/wire/frames.js';
import { askHttp, codeOf } from '../daemon/http-peer.js';
import { running } from '../daemon/running.js';
import { BOOT, NONE, STORE } from './ground.js';
import { linesOf } from './lines.js';

const OWN = `uid:${process.getuid?.() ?? 0}`;
const X = Buffer.from('some data');
const UNKNOWN = `k_${'0'.repeat(32)}`;

async function audited(t: ExecutionContext, mode: 'grouped' | 'each') {
  const { daemon, connect } = await running(t, { dev: true });
  const { kms } = daemon;
  const chain = binding.openChain(kms.space, STORE, BOOT, 0, NONE.prev);
  t.teardown(() => binding.closeChain(chain));
  // Whoever is told under this name was not told for whom it was done.
  binding.setDataAudit(kms.space, mode, binding.auditActor('nobody'));
  const sums: Record<string, number> = {};
  const take = () => {
    for (;;) {
      const taken = binding.takeData(chain, 65_536);
      if (taken.length === 0) return sums;
      for (const { event } of linesOf(taken)) {
        const name = [event.actor, event.key_id, event.type, event.outcome].join(' ');
        sums[name] = (sums[name] ?? 0) + Number(event.count ?? event.items ?? 1);
      }
    }
  };
  return { daemon, peer: await connect(), take };
}

test('what a client does is told under its name, whichever way it comes', async (t) => {
  const { daemon, peer, take } = await audited(t, 'grouped');
  const { keyId } = await daemon.kms.createDek();
  const large = randomBytes(300_000);
  t.is(await peer.outcome(OP.encrypt, keyId, X, null), 'OK');
  t.is(await peer.outcome(OP.encrypt, keyId, large, null), 'OK');
  t.is(await peer.outcome(OP.encryptMany, keyId, [X, X], null), 'OK');
  t.is(await peer.outcome(OP.decrypt, keyId, X, null), 'AUTHENTICATION_FAILED');
  const { results } = await peer.ask(OP.encrypt, null, X, null);
  const defaultId = `k_${Buffer.from((results[0] as Uint8Array).subarray(1, 17)).toString('hex')}`;
  t.is(await peer.outcome(OP.decrypt, null, results[0], null), 'OK');
  const body = { key_id: keyId, plaintext: X.toString('base64') };
  t.is(codeOf(await askHttp(daemon.socket, { path: '/encrypt', body })), undefined);
  t.deepEqual(take(), {
    [`${OWN} ${keyId} encrypt ok`]: 5,
    [`${OWN} ${keyId} decrypt AUTHENTICATION_FAILED`]: 1,
    [`${OWN} ${defaultId} encrypt ok`]: 1,
    [`${OWN} ${defaultId} decrypt ok`]: 1,
  });
});

test('what keeps a request from its key is told, and what is refused for its form is not', async (t) => {
  const { daemon, peer, take } = await audited(t, 'grouped');
  const { keyId } = await daemon.kms.createDek();
  await daemon.kms.disableKey(keyId);
  t.is(await peer.outcome(OP.encrypt, keyId, X, null), 'KEY_DISABLED');
  t.is(await peer.outcome(OP.encrypt, UNKNOWN, X, null), 'KEY_NOT_FOUND');
  t.is(await peer.outcome(OP.decryptMany, UNKNOWN, [X, X], null), 'KEY_NOT_FOUND');
  t.is(await peer.outcome(OP.encrypt, 'no id', X, null), 'INVALID_ARGUMENT');
  t.is(await peer.outcome(OP.encrypt, keyId, 'no bytes', null), 'INVALID_ARGUMENT');
  t.deepEqual(take(), {
    [`${OWN} ${keyId} encrypt KEY_DISABLED`]: 1,
    [`${OWN} ${UNKNOWN} encrypt KEY_NOT_FOUND`]: 1,
    [`${OWN} ${UNKNOWN} decrypt KEY_NOT_FOUND`]: 2,
  });
});

test('requests for whose events there is no room wait until there is, and each is told once', async (t) => {
  const { daemon, peer, take } = await audited(t, 'each');
  const { kms } = daemon;
  const { keyId } = await kms.createDek();
  const { ciphertext } = await kms.encryptWithDek(keyId, X);
  const handle = binding.findKey(kms.space, keyId);
  let calls = 0;
  Object.assign(kms.audit as object, {
    dataWritten: async () => {
      calls += 1;
      await new Promise((resolve) => setTimeout(resolve, 5));
      take();
    },
  });
  const out = Buffer.alloc(X.length);
  let filled = 0;
  while (binding.decryptInto(handle, ciphertext, undefined, out, 0) >= 0) filled += 1;
  const asked = [
    peer.outcome(OP.encrypt, keyId, X, null),
    peer.outcome(OP.encrypt, keyId, randomBytes(300_000), null),
    peer.outcome(OP.encryptMany, keyId, [X, X, X], null),
    peer.outcome(OP.encrypt, UNKNOWN, X, null),
    peer.outcome(OP.encrypt, null, X, null),
  ];
  t.deepEqual(await Promise.all(asked), ['OK', 'OK', 'OK', 'KEY_NOT_FOUND', 'OK']);
  t.true(calls > 0);
  const sums = take();
  t.is(sums[`nobody ${keyId} decrypt ok`], filled);
  t.is(sums[`nobody ${keyId} encrypt ok`], 1);
  t.is(sums[`${OWN} ${keyId} encrypt ok`], 5);
  t.is(sums[`${OWN} ${UNKNOWN} encrypt KEY_NOT_FOUND`], 1);
});

test('while events cannot be written requests are answered AUDIT_UNAVAILABLE', async (t) => {
  const { daemon, peer, take } = await audited(t, 'grouped');
  const { keyId } = await daemon.kms.createDek();
  binding.setDataRefusal(daemon.kms.space, true);
  t.is(await peer.outcome(OP.encrypt, keyId, X, null), 'AUDIT_UNAVAILABLE');
  t.is(await peer.outcome(OP.encrypt, keyId, randomBytes(300_000), null), 'AUDIT_UNAVAILABLE');
  t.is(await peer.outcome(OP.encrypt, UNKNOWN, X, null), 'AUDIT_UNAVAILABLE');
  const body = { key_id: keyId, plaintext: X.toString('base64') };
  t.is(codeOf(await askHttp(daemon.socket, { path: '/encrypt', body })), 'AUDIT_UNAVAILABLE');
  t.deepEqual(take(), {});
  binding.setDataRefusal(daemon.kms.space, false);
  t.is(await peer.outcome(OP.encrypt, keyId, X, null), 'OK');
});
