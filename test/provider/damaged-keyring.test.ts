import { randomInt } from 'node:crypto';
import { rmSync, truncateSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { createEmbeddedKms } from '../../dist/create.js';
import { type ErrorCode, KmsError } from '../../dist/errors.js';
import { binding } from '../../dist/native.js';
import { copy, type KeyringJson, keyringPath, keyringSha256, readJson, writeJson } from './edited.js';
import { PLAIN, same } from './methods.js';
import { refused } from './refused.js';
import { newPlace, openAt, type Place } from './subjects.js';

interface Filled extends Place {
  keyId: string;
  ciphertext: Uint8Array;
  /** A copy of the sound keyring. */
  saved: string;
}

/** A closed store with a few keys, a default key among them. */
async function filled(t: ExecutionContext): Promise<Filled> {
  const place = newPlace(t);
  const kms = await openAt(t, place);
  const { keyId } = await kms.createDekForThread('t');
  const { ciphertext } = await kms.encryptWithDek(keyId, PLAIN);
  await kms.encrypt(PLAIN);
  await kms.close();
  const saved = `${place.directory}/keyring.saved`;
  copy(keyringPath(place), saved);
  return { ...place, keyId, ciphertext, saved };
}

function open(place: Place) {
  return createEmbeddedKms({ dataDir: place.dataDir, masterKeyFile: place.masterKeyFile });
}

/** The open fails in this way, leaves no key in the vault, and succeeds again with the sound keyring. */
async function refusedThenMended(t: ExecutionContext, place: Filled, code: ErrorCode, detail: RegExp) {
  const { used } = binding.arenaInfo();
  await refused(t, open(place), code, detail);
  t.is(binding.arenaInfo().used, used, 'no key stays behind');
  copy(place.saved, keyringPath(place));
  await sound(t, place);
}

async function sound(t: ExecutionContext, place: Filled): Promise<void> {
  const kms = await open(place);
  t.true(same(await kms.decryptWithDek(place.keyId, place.ciphertext), PLAIN));
  await kms.close();
  // Each start changes the keyring: what was saved before it would be a rollback.
  copy(keyringPath(place), place.saved);
}

const OPENS_NO_SLOT = /^the master key opens no slot of this keyring$/;
const DAMAGED = /^the keyring is damaged: ./;
const CHECKSUM = /^the keyring is damaged: its checksum does not match$/;
const TAMPERED = /^the keyring was tampered with: its authentication code does not match$/;

test.serial('a wrong master key opens nothing', async (t) => {
  const place = await filled(t);
  const other = newPlace(t);
  await refused(t, open({ ...place, masterKeyFile: other.masterKeyFile }), 'UNAUTHENTICATED', OPENS_NO_SLOT);
  await sound(t, place);
});

test.serial('the keyring of another store is told from a damaged one', async (t) => {
  const [place, other] = [await filled(t), await filled(t)];
  copy(keyringPath(other), keyringPath(place));
  await refusedThenMended(t, place, 'STORE_UNAVAILABLE', /^the keyring belongs to another store than the records beside it$/);
});

test.serial('records without a keyring are no empty store', async (t) => {
  const place = await filled(t);
  rmSync(keyringPath(place));
  await refusedThenMended(t, place, 'STORE_UNAVAILABLE', /^there are records but no keyring; put the keyring back$/);
});

test.serial('a keyring with any one byte changed is refused', async (t) => {
  const place = await filled(t);
  const sane = Buffer.from(JSON.stringify(readJson(place.saved)));
  const formatAt = sane.indexOf('"format":2') + '"format":'.length;
  const seed = randomInt(sane.length);
  t.log(`first byte ${seed}`);
  for (let i = 0; i < 120; i += 1) {
    const at = (seed + i * 13) % sane.length;
    // Another number there is another format, which has a test of its own.
    if (at === formatAt) continue;
    const bytes = Buffer.from(sane);
    bytes[at]! ^= 1 << (i % 7);
    writeFileSync(keyringPath(place), bytes);
    const error = await t.throwsAsync(open(place), { instanceOf: KmsError }, `byte ${at}`);
    t.is((error as KmsError).code, 'STORE_UNAVAILABLE', `byte ${at}: ${error?.message}`);
    t.regex(error!.message, /: the keyring (is damaged|was tampered with): ./, `byte ${at}`);
  }
  writeFileSync(keyringPath(place), sane);
  await sound(t, place);
});

const broken: Array<[what: string, breakIt: (path: string, keyring: KeyringJson) => void]> = [
  ['cut short by a byte', (path, keyring) => truncateSync(path, JSON.stringify(keyring).length - 1)],
  ['cut in half', (path) => truncateSync(path, 300)],
  ['empty', (path) => truncateSync(path, 0)],
  ['no JSON', (path) => writeFileSync(path, 'keyring')],
  ['no object', (path) => writeFileSync(path, '[]')],
  ['of zeros', (path) => writeFileSync(path, Buffer.alloc(900))],
  ['larger than a keyring can be', (path) => writeFileSync(path, Buffer.alloc(1024 * 1024 + 1, ' '))],
  ['with a member too many', (path, keyring) => writeJson(path, { ...keyring, more: 1 })],
  ['with a member too few', (path, { mac: _mac, ...keyring }) => writeJson(path, keyring)],
  ['with a member twice', (path, k) => writeFileSync(path, JSON.stringify(k).replace('{', '{"format":2,'))],
  ['without slots', (path, keyring) => writeJson(path, { ...keyring, slots: [] })],
];
for (const [what, breakIt] of broken) {
  test.serial(`a keyring ${what} is damaged`, async (t) => {
    const place = await filled(t);
    breakIt(keyringPath(place), readJson(place.saved));
    await refusedThenMended(t, place, 'STORE_UNAVAILABLE', DAMAGED);
  });
}

test.serial('a keyring of a newer format is refused by name', async (t) => {
  const place = await filled(t);
  writeJson(keyringPath(place), { ...readJson<KeyringJson>(place.saved), format: 3, more: 1 });
  await refusedThenMended(t, place, 'UNSUPPORTED', /^the keyring: format 3 is newer than this version knows$/);
});

const edits: Array<
  [what: string, edit: (keyring: KeyringJson) => void, code: 'STORE_UNAVAILABLE' | 'UNAUTHENTICATED', detail: RegExp]
> = [
  ['generation', (k) => (k.generation += 1), 'STORE_UNAVAILABLE', TAMPERED],
  ['default key', (k) => (k.default_key_id = 'k_other'), 'STORE_UNAVAILABLE', TAMPERED],
  ['count of wraps', (k) => (k.keks[0]!.wraps_reserved = 0), 'STORE_UNAVAILABLE', TAMPERED],
  ['wrapped KEK', (k) => (k.keks[0]!.wrapped = k.slots[0]!.slot_key), 'STORE_UNAVAILABLE', TAMPERED],
  ['KEK version', (k) => (k.keks[0]!.kek_version = 2), 'STORE_UNAVAILABLE', TAMPERED],
  ['KEK state', (k) => (k.keks[0]!.state = 'decrypt-only'), 'STORE_UNAVAILABLE', TAMPERED],
  ['wrapped slot key', (k) => (k.slots[0]!.slot_key = k.keks[0]!.wrapped), 'STORE_UNAVAILABLE', TAMPERED],
  ['kind of a slot', (k) => (k.slots[0]!.kind = 'recovery'), 'STORE_UNAVAILABLE', TAMPERED],
  ['state of a slot', (k) => (k.slots[0]!.state = 'successor'), 'STORE_UNAVAILABLE', TAMPERED],
  ['end of a slot', (k) => (k.slots[0]!.expires_at = '2020-01-01T00:00:00.000Z'), 'STORE_UNAVAILABLE', TAMPERED],
  ['record MAC key', (k) => (k.record_mac = k.slots[0]!.slot_key), 'STORE_UNAVAILABLE', TAMPERED],
  ['time of a slot', (k) => (k.slots[0]!.created_at = '2020-01-01T00:00:00.000Z'), 'STORE_UNAVAILABLE', TAMPERED],
  ['wrapped root key', (k) => (k.slots[0]!.root = k.keks[0]!.wrapped), 'UNAUTHENTICATED', OPENS_NO_SLOT],
  ['salt', (k) => (k.slots[0]!.salt = Buffer.alloc(32).toString('base64')), 'UNAUTHENTICATED', OPENS_NO_SLOT],
  ['slot id', (k) => (k.slots[0]!.slot_id = `s_${'0'.repeat(32)}`), 'UNAUTHENTICATED', OPENS_NO_SLOT],
];
for (const [what, edit, code, detail] of edits) {
  test.serial(`a keyring whose ${what} was edited is damaged, and with its checksum made anew it is tampered with`, async (t) => {
    const place = await filled(t);
    const keyring = readJson<KeyringJson>(place.saved);
    t.is(keyringSha256(keyring), keyring.sha256, 'the test knows the format');
    edit(keyring);
    writeJson(keyringPath(place), keyring);
    await refusedThenMended(t, place, 'STORE_UNAVAILABLE', CHECKSUM);
    writeJson(keyringPath(place), { ...keyring, sha256: keyringSha256(keyring) });
    await refusedThenMended(t, place, code, detail);
  });
}
