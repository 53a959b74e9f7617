import { randomBytes } from 'node:crypto';
import { renameSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { OP } from '../../dist/wire/frames.js';
import { askHttp, codeOf } from '../daemon/http-peer.js';
import { running, settle } from '../daemon/running.js';

const X = Buffer.from('some data');
const UNKNOWN = `k_${'0'.repeat(32)}`;

async function strict(t: ExecutionContext, auditContinueOnFailure = false) {
  const changes = { auditDataOperations: 'each', auditStrict: true, auditContinueOnFailure, initialise: true } as const;
  const { daemon, connect, directory } = await running(t, {}, changes);
  const { keyId } = await daemon.kms.createDek();
  const log = join(directory, 'data', 'kms-audit.log');
  const overHttp = async (id: string) =>
    String(
      codeOf(await askHttp(daemon.socket, { path: '/encrypt', body: { key_id: id, plaintext: X.toString('base64') } })) ?? 'OK',
    );
  return { kms: daemon.kms, connect, keyId, overHttp, takeAway: () => renameSync(log, `${log}.1`) };
}

test('no answer about data leaves before its event is durable, whichever way it comes and whatever it says', async (t) => {
  const { kms, connect, keyId, overHttp } = await strict(t);
  const { audit } = kms;
  const written = audit?.dataWritten.bind(audit);
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  Object.assign(audit as object, { dataWritten: () => held.then(written) });
  const answers: string[] = [];
  const asked: Array<Promise<unknown>> = [];
  const ask = (answer: Promise<string>) => asked.push(answer.then((outcome) => answers.push(outcome)));
  for (const args of [
    [OP.encrypt, keyId, X, null],
    [OP.encrypt, keyId, randomBytes(300_000), null],
    [OP.encryptMany, keyId, [X, X], null],
    [OP.decrypt, keyId, X, null],
    [OP.encrypt, UNKNOWN, X, null],
    [OP.encrypt, null, X, null],
    [OP.decrypt, null, X, null],
  ] as const) {
    const [op, ...rest] = args;
    ask((await connect()).outcome(op, ...rest));
  }
  ask(overHttp(keyId));
  ask(overHttp(UNKNOWN));
  const other = await connect();
  t.is(await other.outcome(OP.status), 'OK', 'what is not of data does not wait for it');
  for (let turn = 0; turn < 50; turn += 1) await other.outcome(OP.describeKey, keyId);
  await settle(20);
  t.deepEqual(answers, []);
  release();
  await Promise.all(asked);
  const failed = ['AUTHENTICATION_FAILED', 'AUTHENTICATION_FAILED', 'KEY_NOT_FOUND', 'KEY_NOT_FOUND'];
  t.deepEqual(answers.sort(), [...failed, 'OK', 'OK', 'OK', 'OK', 'OK']);
});

test('when the log fails whoever used a key last is not answered, the next ones are refused, and an operator can ask why', async (t) => {
  const { connect, keyId, overHttp, takeAway } = await strict(t);
  const [first, second] = [await connect(), await connect()];
  takeAway();
  await t.throwsAsync(first.outcome(OP.encrypt, keyId, X, null), { message: /closed/ });
  t.is(await second.outcome(OP.status), 'OK');
  t.is(await second.outcome(OP.encrypt, keyId, X, null), 'AUDIT_UNAVAILABLE');
  t.is(await second.outcome(OP.encrypt, keyId, randomBytes(300_000), null), 'AUDIT_UNAVAILABLE');
  t.is(await second.outcome(OP.encrypt, UNKNOWN, X, null), 'AUDIT_UNAVAILABLE');
  t.is(await second.outcome(OP.createDek, 'label'), 'AUDIT_UNAVAILABLE');
  t.is(await overHttp(keyId), 'AUDIT_UNAVAILABLE');
  t.is(await second.outcome(OP.status), 'OK');
});

test('where they are to go on without the log, data operations are answered although it failed', async (t) => {
  const { connect, keyId, overHttp, takeAway } = await strict(t, true);
  const peer = await connect();
  takeAway();
  for (let round = 0; round < 2; round += 1) {
    t.is(await peer.outcome(OP.encrypt, keyId, X, null), 'OK');
    t.is(await peer.outcome(OP.encrypt, keyId, randomBytes(300_000), null), 'OK');
    t.is(await overHttp(keyId), 'OK');
    t.is(await peer.outcome(OP.createDek, 'label'), 'AUDIT_UNAVAILABLE');
  }
});
