import { appendFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { auditedKms, linesOf, newGroundOf } from './audited.js';
import { Ground, type Judged } from './verified.js';
import { newPair, secretOf } from './written.js';

const auditor = newPair('x25519');
const auditorKey = Buffer.from(auditor.publicKey, 'base64');
const OTHER = Buffer.from('another key');

/** A log of the product itself: three starts, one after a crash that tore its last write, files that became long, events of all kinds. */
async function realLog(t: Parameters<typeof auditedKms>[0], dataOperations: 'each' | 'grouped') {
  const ground = newGroundOf(t);
  const audit = { auditorKey, dataOperations, maxFileBytes: 4_096 };
  const work = async () => {
    const kms = await auditedKms(t, ground, { audit });
    for (let n = 0; n < 6; n++) {
      const { keyId } = await kms.createDekForThread(`chat/${n}`, { actor: 'uid:42' });
      const { ciphertext } = await kms.encryptWithDek(keyId, Buffer.from('text'));
      await kms.decryptWithDek(keyId, ciphertext);
      await t.throwsAsync(kms.decryptWithDek(keyId, OTHER));
      await kms.getWrapped(keyId);
      await kms.setKeyState(keyId, 'disabled', { actor: 'token:7' });
    }
    await kms.rotateKek();
    await kms.close();
  };
  await work();
  await work();
  appendFileSync(join(ground.dataDir, 'kms-audit.log'), '{"event":{"seq":');
  await work();
  const first = readdirSync(ground.dataDir)
    .filter((name) => /^kms-audit-\d{16}\.log$/.test(name))
    .sort()[0] as string;
  const publicKey = linesOf(ground, first)[0]?.['signing_key'] as string;
  const judged: Judged = { publicKey, secret: secretOf(auditor) };
  return { ground, judged };
}

for (const dataOperations of ['each', 'grouped'] as const) {
  test(`a log that the service wrote is right, by both verifiers and to the last HMAC: data operations ${dataOperations}`, async (t) => {
    t.timeout(200_000);
    const { ground, judged } = await realLog(t, dataOperations);
    const reader = new Ground();
    t.teardown(() => reader.clear());
    const report = await reader.verify([ground.dataDir], judged);
    t.like(report, { ok: true, fault: null, epochs: 3, unsignedLines: 0, sigsUnchecked: 0, rollbacks: 0 });
    t.true(report.lines > 60 && report.sigsChecked === report.lines);
    const names = readdirSync(ground.dataDir)
      .filter((name) => /^kms-audit.*\.log$/.test(name))
      .sort();
    t.true(names.length > 2);
    t.is(names.pop(), 'kms-audit.log');
    const paths = [...names, 'kms-audit.log'].map((name) => join(ground.dataDir, name));
    const second = await reader.independently(paths, judged);
    t.like(second, { ok: true, fault: null, lines: report.lines, sigsChecked: report.lines, signingKey: report.signingKey });
    const types = new Set(
      paths.flatMap((_, n) => linesOf(ground, [...names, 'kms-audit.log'][n] as string).map(({ type }) => type)),
    );
    for (const type of [
      'start',
      'stop',
      'create_dek',
      'encrypt',
      'decrypt',
      'get_wrapped',
      'key_state',
      'rotate_kek',
      'recovered',
    ]) {
      t.true(types.has(type), type);
    }

    const target = paths[1] as string;
    const text = readFileSync(target, 'latin1');
    const at = text.indexOf('uid:');
    writeFileSync(target, `${text.slice(0, at)}uId:${text.slice(at + 4)}`, 'latin1');
    const line = text.slice(0, at).split('\n').length;
    t.like((await reader.verify([ground.dataDir], judged)).fault, { line });
    const found = (await reader.independently(paths, judged)).fault;
    t.true(found?.line === line || found?.line === line + 1);
  });
}
