import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import type { AuditEvent, AuditLog } from '../../dist/audit/audit-log.js';
import { Openings } from '../../dist/kms/databases/openings.js';
import { MAX_OPENING_GROUPS } from '../../dist/limits.js';
import { madeIn, openedIn, partsOf, secretBytes, secretOf } from '../kms/databases.js';
import { refused } from '../provider/refused.js';
import { interceptedFileSystem, systemError } from '../store/intercepted.js';
import { auditedKms, linesOf, newGroundOf } from './audited.js';
import { Ground, type Judged } from './verified.js';
import { newPair, secretOf as privateHalf } from './written.js';

const PLAIN = Buffer.from('of one tenant');
const auditor = newPair('x25519');
const auditorKey = Buffer.from(auditor.publicKey, 'base64');

for (const dataOperations of ['each', 'grouped'] as const) {
  test(`what is done in a database is told with its name, and never with a thread or the secret: ${dataOperations}`, async (t) => {
    const ground = newGroundOf(t);
    const kms = await auditedKms(t, ground, { audit: { auditorKey, dataOperations } });
    const secret = await madeIn(kms, 'uid:7');
    const database = await kms.openDatabase(secretBytes(secret), { actor: 'uid:8' });
    const { databaseId } = database;
    const { keyId } = await database.createDekForThread('tenant/their-thread', { actor: 'uid:9' });
    const { ciphertext } = await database.encryptWithDek(keyId, PLAIN, undefined, { actor: 'token:ab' });
    await database.decryptWithDek(keyId, ciphertext);
    await t.throwsAsync(database.decryptWithDek(keyId, Buffer.alloc(40)));
    await t.throwsAsync(database.encryptWithDek(`k_${'0'.repeat(32)}`, PLAIN));
    await database.getWrapped(keyId);
    await database.rewrapDek(keyId);
    await database.disableKey(keyId);
    await t.throwsAsync(database.encryptWithDek(keyId, PLAIN));
    const outside = await kms.createDekForThread('outside');
    await kms.encryptWithDek(outside.keyId, PLAIN);
    database.leave();
    await t.throwsAsync(kms.openDatabase(secretBytes(secretOf({ ...partsOf(secret), key: '0'.repeat(64) }))));
    await kms.dropDatabase(databaseId);
    await kms.close();
    const text = readFileSync(join(ground.dataDir, 'kms-audit.log'), 'utf8');
    const { key, groupId } = partsOf(secret);
    for (const needle of [secret, key, groupId, 'tenant', 'their-thread', PLAIN.toString()])
      t.false(text.includes(needle), needle);
    const lines = linesOf(ground);
    const inside = lines.filter((line) => line['database'] === databaseId);
    const said = inside.map(({ type, actor, ...line }) =>
      [type, actor, line['key_id'] ?? line['act'], line['outcome']].join(' '),
    );
    const own = `uid:0`;
    for (const expected of [
      'database uid:7 created ok',
      'database uid:8 opened ok',
      `create_dek uid:9 ${keyId} ok`,
      `encrypt token:ab ${keyId} ok`,
      `decrypt ${own} ${keyId} ok`,
      `decrypt ${own} ${keyId} AUTHENTICATION_FAILED`,
      `encrypt ${own} k_${'0'.repeat(32)} KEY_NOT_FOUND`,
      `encrypt ${own} ${keyId} KEY_DISABLED`,
    ]) {
      t.true(said.includes(expected), `${expected}\nin\n${said.join('\n')}`);
    }
    for (const type of ['get_wrapped', 'rewrap', 'key_state'])
      t.true(
        inside.some((line) => line.type === type && line['key_id'] === keyId),
        type,
      );
    t.true(inside.some((line) => line['act'] === 'dropped'));
    t.true(inside.every((line) => line['thread_id'] === undefined));
    t.true(lines.some((line) => line.type === 'encrypt' && line['key_id'] === outside.keyId && line['database'] === undefined));
    const reader = new Ground();
    t.teardown(() => reader.clear());
    const judged: Judged = { publicKey: lines[0]!['signing_key'] as string, secret: privateHalf(auditor) };
    t.like(await reader.verify([ground.dataDir], judged), { ok: true, fault: null, sigsUnchecked: 0 });
    const path = join(ground.dataDir, 'kms-audit.log');
    t.like(await reader.independently([path], judged), { ok: true, fault: null, lines: lines.length });
  });
}

test('what was done in a database whose openers have gone has its lines, also when the store is sealed over it', async (t) => {
  const ground = newGroundOf(t);
  const kms = await auditedKms(t, ground, { audit: { dataOperations: 'grouped' } });
  const [one, two] = [await openedIn(t, kms, await madeIn(kms)), await openedIn(t, kms, await madeIn(kms))];
  for (const database of [one, two]) {
    const { keyId } = await database.createDek();
    for (let times = 0; times < 5; times += 1) await database.encryptWithDek(keyId, PLAIN);
  }
  one.leave();
  await kms.seal();
  await kms.close();
  const lines = linesOf(ground);
  for (const { databaseId } of [one, two]) {
    const [line, ...more] = lines.filter((each) => each.type === 'encrypt' && each['database'] === databaseId);
    t.like(line, { count: 5 });
    t.deepEqual(more, []);
  }
  t.is(lines.at(-2)?.type, 'seal');
});

test('while the log cannot be written nothing is done in a database either, not even in one that is opened meanwhile', async (t) => {
  const ground = newGroundOf(t);
  let isFull = false;
  const fileSystem = interceptedFileSystem(({ op, of }, proceed) => {
    if (isFull && ['kms-audit.log', 'kms-audit.reserve'].includes(of) && op === 'write') throw systemError('ENOSPC', op);
    return proceed();
  });
  const kms = await auditedKms(t, ground, { fileSystem, audit: { dataOperations: 'grouped' } });
  const secrets = [await madeIn(kms), await madeIn(kms)] as const;
  const early = await openedIn(t, kms, secrets[0]);
  const before = await kms.openDatabase(secretBytes(secrets[1]));
  const [first, second] = [(await early.createDek()).keyId, (await before.createDek()).keyId];
  before.leave();
  isFull = true;
  await refused(t, kms.createDek(), 'AUDIT_UNAVAILABLE', /no space/);
  await refused(t, early.createDek(), 'AUDIT_UNAVAILABLE', /no space/);
  await refused(t, kms.newDatabase(), 'AUDIT_UNAVAILABLE', /no space/);
  await refused(t, early.encryptWithDek(first, PLAIN), 'AUDIT_UNAVAILABLE');
  const late = await openedIn(t, kms, secrets[1]);
  await refused(t, late.encryptWithDek(second, PLAIN), 'AUDIT_UNAVAILABLE');
  isFull = false;
  while ((await kms.health()).auditFault !== null) await delay(50);
  await t.notThrowsAsync(early.encryptWithDek(first, PLAIN));
  await t.notThrowsAsync(late.encryptWithDek(second, PLAIN));
});

test('openings are told at once the first time and then counted, whoever opens what how often', (t) => {
  const events: AuditEvent[] = [];
  const log: AuditLog = { refuseIfFailed() {}, async write() {}, async writeAll() {}, note: (event) => events.push(event) };
  const openings = new Openings(log);
  for (let times = 0; times < 100; times += 1) openings.note('uid:1', 'a'.repeat(32));
  openings.note('uid:2', 'a'.repeat(32));
  t.deepEqual(
    events.map(({ actor, detail }) => [actor, detail?.['count']]),
    [
      ['uid:1', 1],
      ['uid:2', 1],
    ],
  );
  openings.turn();
  t.deepEqual(
    events.slice(2).map(({ actor, detail }) => [actor, detail]),
    [['uid:1', { act: 'opened', database: 'a'.repeat(32), count: 99 }]],
  );
  openings.note('uid:1', 'a'.repeat(32));
  t.is(events.length, 4);
  events.length = 0;
  for (let at = 0; at < MAX_OPENING_GROUPS + 500; at += 1) openings.note('uid:1', at.toString(16).padStart(32, '0'));
  openings.turn();
  t.true(events.length <= MAX_OPENING_GROUPS + 1);
  t.is(
    events.reduce((sum, { detail }) => sum + (detail?.['count'] as number), 0),
    MAX_OPENING_GROUPS + 500,
  );
});
