import test from 'ava';
import { FIRST_BUCKET_MS } from '../dist/daemon/counters.js';
import { ERROR_TABLE, type ErrorCode } from '../dist/errors.js';
import * as limits from '../dist/limits.js';
import * as native from '../dist/native.js';
import { FRAME_HEADER_BYTES, OP, OPERATIONS } from '../dist/wire/frames.js';
import { constantsOf, filesIn, rowsOf, textOf } from './house/sources.js';

const codes = Object.keys(ERROR_TABLE) as ErrorCode[];

test('every error has numbers of its own', (t) => {
  t.deepEqual(
    codes.map((code) => ERROR_TABLE[code].wire),
    codes.map((_, i) => i + 1),
  );
  t.is(new Set(codes.map((code) => ERROR_TABLE[code].exit)).size, codes.length);
  t.is(new Set(codes.map((code) => ERROR_TABLE[code].message)).size, codes.length);
  for (const code of codes) t.true(ERROR_TABLE[code].http >= 400 && ERROR_TABLE[code].http < 600, code);
});

test('the addon has the same codes', (t) => {
  t.deepEqual({ ...native.nativeStatuses }, Object.fromEntries(codes.map((code) => [code, ERROR_TABLE[code].wire])));
});

test('the native core sends the same numbers and messages', (t) => {
  const entry = /X\(\w+, (\d+), "(\w+)", "([^"]+)"\)/g;
  const sent = [...textOf('native/core/status.h').matchAll(entry)].map(([, wire, code, message]) => [
    Number(wire),
    code,
    message,
  ]);
  t.deepEqual(
    sent,
    codes.map((code) => [ERROR_TABLE[code].wire, code, ERROR_TABLE[code].message]),
  );
});

test('docs/PROTOCOL.md has the same table of errors', (t) => {
  const rows = rowsOf('docs/PROTOCOL.md', /^\d+$/).filter((cells) => cells.length === 3);
  t.deepEqual(
    rows.map(([wire, code]) => [Number(wire), code]),
    codes.map((code) => [ERROR_TABLE[code].wire, code]),
  );
});

test('docs/PROTOCOL.md has the same table of operations', (t) => {
  const rows = rowsOf('docs/PROTOCOL.md', /^\d+$/).filter((cells) => cells.length === 5);
  const documented = rows.map(([op, name, , , role]) => [Number(op), name, role]);
  const roles = (role: string, ownKeys: boolean) =>
    role === 'any' ? 'any admitted' : ownKeys ? `${role}, or client on keys it created` : role;
  t.deepEqual(
    documented,
    OPERATIONS.map((one) => [one.op, one.name, roles(one.role, one.ownKeys)]),
  );
  t.deepEqual(
    Object.values(OP),
    OPERATIONS.map((_, i) => i),
  );
});

test('TypeScript and C++ have the same limits', (t) => {
  const core = constantsOf(
    ...[
      'arena.h',
      'entropy.h',
      'cipher.h',
      'status.h',
      'thread_state.h',
      'message.h',
      'frame.h',
      'key_file.h',
      'document_rules.h',
      'documents.cc',
      'audit_line.h',
      'audit_actors.h',
    ].map((name) => `native/core/${name}`),
  );
  const pairs: Record<string, number> = {
    kKeyBytes: limits.KEY_BYTES,
    kNonceBytes: limits.NONCE_BYTES,
    kTagBytes: limits.TAG_BYTES,
    kOverheadBytes: limits.CIPHERTEXT_OVERHEAD,
    kWrappedBytes: limits.WRAPPED_BYTES,
    kMaxPlaintextBytes: limits.MAX_PLAINTEXT_BYTES,
    kMaxAadBytes: limits.MAX_AAD_BYTES,
    kMaxBatchItems: limits.MAX_BATCH_ITEMS,
    kMaxFrameBytes: limits.MAX_FRAME_BYTES,
    kInlineBytes: limits.INLINE_BYTES,
    kFrameHeaderBytes: FRAME_HEADER_BYTES,
    kMaxKeyFileBytes: limits.MAX_KEY_FILE_BYTES,
    kMaxRecordBytes: limits.MAX_RECORD_BYTES,
    kMaxKeyringBytes: limits.MAX_KEYRING_BYTES,
    kSoftUses: limits.SOFT_USES,
    kMaxKekVersion: limits.MAX_KEK_VERSION,
    kMaxUses: limits.MAX_USES,
    kMaxLineBytes: limits.MAX_AUDIT_LINE_BYTES,
    kNotCached: native.NOT_CACHED,
    kNotCovered: native.NOT_COVERED,
    kNeedsUses: native.NEEDS_USES,
    kNeedsAudit: native.NEEDS_AUDIT,
    kOwn: native.OWN_ACTOR,
    kUnaudited: native.UNAUDITED,
    Encrypt: OP.encrypt,
    Decrypt: OP.decrypt,
    EncryptMany: OP.encryptMany,
    DecryptMany: OP.decryptMany,
  };
  for (const [name, value] of Object.entries(pairs)) t.is(core.get(name), value, name);
  t.is(core.get('kKeyIdBytes'), 'k_'.length + 64);
  t.true(limits.KEY_ID_PATTERN.test(`k_${'a'.repeat(64)}`) && !limits.KEY_ID_PATTERN.test(`k_${'a'.repeat(65)}`));
});

test('TypeScript and C++ have the same report of a chunk', (t) => {
  const { REPORT, DEFERRED, DEFERRED_FIELDS, FLAG, BIT, MAX_DEFERRED, POLICY_SHIFT, REPORT_LENGTH } = native;
  const core = constantsOf('native/core/serve_chunk.h');
  const pairs: Record<string, number> = {
    kConsumed: REPORT.consumed,
    kWritten: REPORT.written,
    kFlags: REPORT.flags,
    kDeferred: REPORT.deferred,
    kServed: REPORT.served,
    kUnits: REPORT.units,
    kBusy: REPORT.busy,
    kFirst: REPORT.first,
    kFields: DEFERRED_FIELDS,
    kMaxDeferred: MAX_DEFERRED,
    kLength: REPORT_LENGTH,
    kPlaintextWritten: FLAG.plaintextWritten,
    kOutputFull: FLAG.outputFull,
    kProtocolError: FLAG.protocolError,
    kCold: DEFERRED.cold,
    kNotCachedKey: DEFERRED.notCached,
    kNeedsMoreUses: DEFERRED.needsUses,
    kLarge: DEFERRED.large,
    kNotCoveredKey: DEFERRED.notCovered,
    kNeedsRoomForEvents: DEFERRED.audit,
    kMayUseKeys: BIT.client,
    kIsSealed: BIT.sealed,
    kIsUnknown: BIT.unknown,
    kLeaveAll: BIT.cold,
    kUntimed: BIT.untimed,
    kIsFull: BIT.full,
    kPolicyShift: POLICY_SHIFT,
  };
  t.deepEqual(Object.fromEntries(core), pairs);
});

test('TypeScript and C++ have the same counts', (t) => {
  const { COUNTS, TIME_BUCKETS } = native;
  const core = constantsOf('native/core/tally.h');
  t.is(core.get('kOperations'), COUNTS.operations);
  t.is(core.get('kBuckets'), TIME_BUCKETS);
  t.is(core.get('kFirstBucketNanoseconds'), FIRST_BUCKET_MS * 1e6);
  t.is(native.binding.readCounts().length, COUNTS.length);
  t.is(COUNTS.outcomes, 1 + codes.length);
});

test('the limits do not contradict one another', (t) => {
  t.notThrows(limits.assertLimits);
});

test('the addon has the calls that its interface names, and no others', (t) => {
  const text = textOf('src/native.ts');
  const body = text.slice(text.indexOf('export interface Binding {'), text.indexOf('const require'));
  const named = [...body.matchAll(/^ {2}(\w+)\(/gm)].map((match) => match[1]!);
  t.deepEqual(Object.keys(native.binding).sort(), named.sort());
});

function lockedPackages(): Record<string, { version: string; optionalDependencies?: Record<string, string> }> {
  return JSON.parse(textOf('package-lock.json')).packages;
}

test('docs/DEPENDENCIES.md names every dependency with its version, and no other', (t) => {
  const { dependencies, devDependencies } = JSON.parse(textOf('package.json')) as Record<string, Record<string, string>>;
  const packages = lockedPackages();
  const rows = new Map(rowsOf('docs/DEPENDENCIES.md', /^(@[\w-]+\/)?[\w.-]+$/).map(([name, version]) => [name, version]));
  rows.delete('package');
  for (const name of Object.keys({ ...dependencies, ...devDependencies })) t.true(rows.has(name), `${name} is documented`);
  for (const [name, version] of rows) {
    if (/^-+$/.test(name!)) continue;
    // Where npm lays a package, at the top or below the one that needs it, says nothing about it.
    const locked = Object.entries(packages).filter(([path]) => path.endsWith(`node_modules/${name}`));
    t.true(
      locked.some(([, entry]) => entry.version === version),
      `${name} ${version}`,
    );
  }
});

test('package-lock.json lists the optional packages of every platform, without which `npm ci` refuses it', (t) => {
  const packages = lockedPackages();
  const missing = Object.values(packages).flatMap(({ optionalDependencies = {} }) =>
    Object.keys(optionalDependencies).filter(
      (name) => !Object.keys(packages).some((path) => path.endsWith(`node_modules/${name}`)),
    ),
  );
  t.deepEqual(missing, []);
  t.true(Object.values(packages).some(({ optionalDependencies }) => optionalDependencies !== undefined));
});

test('docs name only commands of package.json', (t) => {
  const { scripts } = JSON.parse(textOf('package.json')) as { scripts: Record<string, string> };
  for (const path of ['README.md', ...filesIn('docs', '.md')]) {
    for (const [, name] of textOf(path).matchAll(/npm run ([\w:-]+)/g)) t.true(name! in scripts, `${path}: npm run ${name}`);
  }
});
