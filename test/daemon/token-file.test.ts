import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { StoredToken } from '../../dist/daemon/token-document.js';
import { createToken, listTokens } from '../../dist/daemon/token-writer.js';
import { systemClock, Tokens } from '../../dist/daemon/tokens.js';
import { KmsError } from '../../dist/errors.js';
import { MAX_TOKEN_FILE_BYTES, MAX_TOKENS } from '../../dist/limits.js';
import { nodeFileSystem } from '../../dist/store/file-system.js';
import { newDataDir } from '../store/data-dir.js';

const hex = (number: number, digits: number) => number.toString(16).padStart(digits, '0');

function stored(index: number, members: object = {}): StoredToken {
  return {
    token_id: hex(index, 16),
    name: 'a',
    sha256: hex(index, 64),
    roles: ['client'],
    created_at: '2026-01-31T12:00:00.000Z',
    created_by: 'uid:0',
    expires_at: null,
    ...members,
  };
}

const fileOf = (...tokens: object[]) => JSON.stringify({ format: 1, tokens });
const first = (members: object) => fileOf(stored(1, members));

const without = (member: keyof StoredToken) => {
  const { [member]: _, ...rest } = stored(1);
  return fileOf(rest);
};

/** What a file says, and how its refusal ends. */
const REFUSED: ReadonlyArray<readonly [text: string | Buffer, reason: string]> = [
  ['', 'not JSON'],
  [first({}).slice(0, -1), 'not JSON'],
  [`\uFEFF${first({})}`, 'not JSON'],
  [Buffer.concat([Buffer.from('"'), Buffer.from([0xff]), Buffer.from('"')]), 'not JSON'],
  ['[]', 'not a JSON object'],
  ['null', 'not a JSON object'],
  ['{}', 'format must be 1'],
  [JSON.stringify({ format: '1', tokens: [] }), 'format must be 1'],
  [JSON.stringify({ format: 0, tokens: [] }), 'format must be 1'],
  [JSON.stringify({ format: 2, tokens: 7, more: true }), 'format 2 is newer than this version knows'],
  [JSON.stringify({ format: 1, tokens: [], mac: '' }), 'has an unknown member'],
  [JSON.stringify({ format: 1 }), 'has an unknown member'],
  [JSON.stringify({ format: 1, tokens: {} }), 'tokens must be a list'],
  ['{"format": 1, "tokens": [], "tokens": []}', 'a member stands twice'],
  [first({}).replace('"name":"a"', '"name":"b","name":"a"'), 'a member stands twice'],
  [first({}).replace('"name":"a"', '"name":"b","na\\u006de":"a"'), 'a member stands twice'],
  [fileOf(7 as unknown as object), 'token 1: not a JSON object'],
  [fileOf(stored(1), { ...stored(2), sha265: '' }), 'token 2: has an unknown member'],
  [fileOf(stored(1), stored(1, { sha256: hex(2, 64) })), 'two tokens have the same id or hash'],
  [fileOf(stored(1), stored(2, { sha256: hex(1, 64) })), 'two tokens have the same id or hash'],
  [without('token_id'), 'token 1: token_id must be 16 lower-case hex digits'],
  [without('name'), 'token 1: name must be at most 64 characters of A-Z a-z 0-9 . _ : @ / -'],
  [without('expires_at'), 'token 1: expires_at must be a time or null'],
  [first({ token_id: 'ABCDEF0123456789' }), 'token 1: token_id must be 16 lower-case hex digits'],
  [first({ name: 'with space' }), 'token 1: name must be at most 64 characters of A-Z a-z 0-9 . _ : @ / -'],
  [first({ sha256: hex(1, 63) }), 'token 1: sha256 must be 64 lower-case hex digits'],
  [first({ roles: [] }), 'token 1: roles must be one or more of client, admin, auditor, none twice'],
  [first({ roles: ['root'] }), 'token 1: roles must be one or more of client, admin, auditor, none twice'],
  [first({ roles: ['client', 'client'] }), 'token 1: roles must be one or more of client, admin, auditor, none twice'],
  [first({ roles: 'client' }), 'token 1: roles must be one or more of client, admin, auditor, none twice'],
  [first({ created_at: '2026-01-31' }), 'token 1: created_at must be a time'],
  [first({ expires_at: '2026-02-30T12:00:00.000Z' }), 'token 1: expires_at must be a time or null'],
  [first({ expires_at: 1_800_000_000 }), 'token 1: expires_at must be a time or null'],
  [first({ created_by: '' }), 'token 1: created_by must be 1 to 64 characters of A-Z a-z 0-9 . _ : @ / -'],
  [first({ thread_prefixes: [] }), 'token 1: thread_prefixes must be 1 to 16 beginnings of thread ids, none twice'],
  [first({ thread_prefixes: ['a b'] }), 'token 1: thread_prefixes must be 1 to 16 beginnings of thread ids, none twice'],
  [first({ own: false }), 'token 1: own must be true or absent'],
  [first({ own: true, roles: ['client', 'admin'] }), 'token 1: thread_prefixes and own go with the role client alone'],
  [first({ thread_prefixes: ['a'], roles: ['auditor'] }), 'token 1: thread_prefixes and own go with the role client alone'],
  [fileOf(...Array.from({ length: MAX_TOKENS + 1 }, (_, index) => stored(index))), 'more than 1024 tokens'],
  [first({}) + ' '.repeat(MAX_TOKEN_FILE_BYTES), 'more than 1048576 bytes'],
];

/** Why a daemon refuses every token of the directory; what a command says to it is the same. */
async function faultIn(t: ExecutionContext, dataDir: string): Promise<string | null> {
  const fault = new Tokens(dataDir).fault();
  if (fault === null) await t.notThrowsAsync(listTokens(dataDir));
  else t.is((await t.throwsAsync(listTokens(dataDir), { instanceOf: KmsError }))?.message, fault);
  return fault;
}

test('a file that breaks a rule is refused with the name of the rule and none of its values', async (t) => {
  const dataDir = newDataDir(t);
  const path = join(dataDir, 'tokens.json');
  for (const [text, reason] of REFUSED) {
    writeFileSync(path, text, { mode: 0o600 });
    const fault = await faultIn(t, dataDir);
    t.true(fault?.endsWith(`: ${path}: ${reason}`), `${fault}, expected ${reason}`);
    t.is(new Tokens(dataDir).count(), 0);
    t.is((await t.throwsAsync(createToken(dataDir, { roles: ['client'] })))?.message, fault!, 'nor is it written to');
  }
});

test('a file that keeps the rules is taken: no tokens, members in any order, strings that look like JSON, and as many as there may be', async (t) => {
  const dataDir = newDataDir(t);
  const path = join(dataDir, 'tokens.json');
  const backwards = Object.fromEntries(Object.entries(stored(1)).reverse());
  const largest = Array.from({ length: MAX_TOKENS }, (_, index) =>
    stored(index, { name: 'n'.repeat(64), created_by: 'c'.repeat(64), roles: ['client', 'admin', 'auditor'] }),
  );
  for (const [text, count] of [
    [fileOf(), 0],
    [fileOf(backwards), 1],
    [first({ name: ':', thread_prefixes: ['a:b', '::'] }), 1],
    [first({ expires_at: '2026-01-31T12:00:00.000Z' }), 0],
    [JSON.stringify({ format: 1, tokens: largest }, null, 2), MAX_TOKENS],
  ] as const) {
    writeFileSync(path, text, { mode: 0o600 });
    t.is(await faultIn(t, dataDir), null);
    t.is(new Tokens(dataDir).count(), count);
  }
  const refused = await t.throwsAsync(createToken(dataDir, { roles: ['client'] }), { instanceOf: KmsError });
  t.is(refused?.message, 'conflicting state: there are 1024 tokens already; revoke one first');
});

test('a file that others can reach is refused, whatever the bits', async (t) => {
  const dataDir = newDataDir(t);
  const path = join(dataDir, 'tokens.json');
  writeFileSync(path, first({}));
  for (const mode of [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o777]) {
    chmodSync(path, mode);
    const fault = await faultIn(t, dataDir);
    t.is(fault, `permission denied: ${path} has mode 0${mode.toString(8)}; run: chmod 600 ${path}`);
  }
  chmodSync(path, 0o600);
  t.is(await faultIn(t, dataDir), null);
});

test('a link, a directory and a pipe in its place are refused', async (t) => {
  const dataDir = newDataDir(t);
  const path = join(dataDir, 'tokens.json');
  writeFileSync(path, first({}), { mode: 0o600 });
  renameSync(path, join(dataDir, 'elsewhere'));
  symlinkSync('elsewhere', path);
  t.is(await faultIn(t, dataDir), `the key store is unavailable: ${path}: a symbolic link stands in its place`);
  rmSync(path);
  mkdirSync(path, { mode: 0o700 });
  t.is(await faultIn(t, dataDir), `the key store is unavailable: ${path}: not a regular file`);
  rmSync(path, { recursive: true });
  execFileSync('mkfifo', ['-m', '600', path]);
  t.is(await faultIn(t, dataDir), `the key store is unavailable: ${path}: not a regular file`);
});

test('a daemon takes only the file of its own user: one that runs as root no other, since that user could name itself admin', (t) => {
  const dataDir = newDataDir(t);
  const path = join(dataDir, 'tokens.json');
  writeFileSync(path, first({}), { mode: 0o600 });
  const own = process.geteuid?.() ?? 0;
  const fault = (uid: number, owner: number) => {
    const system = {
      ...nodeFileSystem,
      effectiveUid: () => uid,
      fstatSync: (fd: number) => Object.assign(nodeFileSystem.fstatSync(fd), { uid: owner }),
    };
    return new Tokens(dataDir, systemClock, system).fault();
  };
  t.is(fault(own, own), null);
  t.is(fault(0, 0), null);
  t.is(fault(1000, 1000), null);
  t.is(fault(0, 1000), `permission denied: ${path} belongs to uid 1000, the daemon is uid 0`);
  t.is(fault(1000, 1001), `permission denied: ${path} belongs to uid 1001, the daemon is uid 1000`);
});
