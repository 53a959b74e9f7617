import test, { type ExecutionContext } from 'ava';
import { NO_AUDIT } from '../../dist/audit/audit-log.js';
import { KmsError } from '../../dist/errors.js';
import { Keyring } from '../../dist/kms/keyring.js';
import { binding } from '../../dist/native.js';
import { openMemoryStore } from '../../dist/store/memory.js';
import { administered } from './administered.js';
import { K1, K2, storeWith } from './stores.js';

const PENDING = { kind: 'master', state: 'pending', expiresAt: '' } as const;

async function ground(t: ExecutionContext) {
  const disk = openMemoryStore();
  let fault: string | undefined;
  const store = storeWith(disk, (name, real) => {
    if (fault === name) throw new KmsError('STORE_UNAVAILABLE', 'EIO at write');
    return real();
  });
  const { opened, wipe } = await administered(t, store, K1, NO_AUDIT);
  const master = (hex: string) => opened.vault.readMaster({ kind: 'bytes', bytes: new Uint8Array(Buffer.from(hex, 'hex')) });
  return { disk, ...opened, wipe, master, fail: (name?: string) => (fault = name) };
}

const used = () => binding.arenaInfo().used;

test.serial('what signs the audit log goes along to a new root key, and opens after a restart', async (t) => {
  const { disk, keyring, vault, master, wipe } = await ground(t);
  const keys = [vault.generateSigning(), vault.generateSigning()];
  const createdAt = new Date().toISOString();
  await keyring.setAuditKeys(() =>
    keys.map(({ handle, publicKey }) => ({ publicKey, wrapped: keyring.wrapSigning(handle, publicKey), createdAt })),
  );
  const before = [...keyring.auditKeys];
  const { slotId } = await keyring.addSlot(master(K2), PENDING);
  await keyring.removeSlot(slotId);
  t.is(keyring.auditKeys.length, 2);
  for (const [index, key] of keyring.auditKeys.entries()) {
    t.notDeepEqual(key.wrapped, before[index]!.wrapped);
    t.deepEqual(Buffer.from(vault.publicKeyOf(keyring.unwrapSigning(key))), Buffer.from(keys[index]!.publicKey));
  }
  t.throws(() => keyring.unwrapSigning(before[0]!), { code: 'AUTHENTICATION_FAILED' }, 'the old root key is gone');
  await wipe();
  const again = await administered(t, disk, K1, NO_AUDIT);
  for (const [index, key] of again.opened.keyring.auditKeys.entries()) {
    const { vault: other, keyring: opened } = again.opened;
    t.deepEqual(Buffer.from(other.publicKeyOf(opened.unwrapSigning(key))), Buffer.from(keys[index]!.publicKey));
  }
});

test.serial('every change raises the generation by one', async (t) => {
  const { disk, keyring, master } = await ground(t);
  const generations = [keyring.generation];
  const noted = async (work: Promise<unknown>) => {
    await work;
    generations.push(keyring.generation);
    t.is((await disk.readKeyring())!.generation, keyring.generation);
  };
  await noted(keyring.addSlot(master(K2), PENDING));
  await noted(keyring.setDefaultKey('k_1'));
  await noted(keyring.beginRotation(`kek_${'a'.repeat(32)}`));
  await noted(keyring.retireKeks(keyring.active.kekId));
  await noted(keyring.removeSlot(keyring.slots[1]!.slotId));
  t.deepEqual(generations, [1, 2, 3, 4, 5, 6]);
});

test.serial(
  'no key is left in the vault by a slot that comes and goes, by a KEK that was retired, or by a write that failed',
  async (t) => {
    const { keyring, master, vault, fail } = await ground(t);
    const second = master(K2);
    const before = used();
    const { slotId } = await keyring.addSlot(second, PENDING);
    t.is(used(), before);
    await keyring.removeSlot(slotId);
    t.is(used(), before, 'a new root key, and the old one wiped');
    await keyring.beginRotation(`kek_${'a'.repeat(32)}`);
    t.is(used(), before + 1);
    await keyring.retireKeks(keyring.active.kekId);
    t.is(used(), before);
    const { slotId: other } = await keyring.addSlot(second, PENDING);
    fail('writeKeyring');
    await t.throwsAsync(keyring.removeSlot(other), { code: 'STORE_UNAVAILABLE' });
    await t.throwsAsync(keyring.beginRotation(`kek_${'b'.repeat(32)}`), { code: 'STORE_UNAVAILABLE' });
    t.is(used(), before);
    t.is(keyring.slots.length, 2, 'what was not written is not so');
    fail();
    await keyring.removeSlot(other);
    t.is(used(), before);
    vault.release(second);
  },
);

test.serial('a rotation cannot begin while another one has not ended', async (t) => {
  const { keyring } = await ground(t);
  const first = keyring.beginRotation(`kek_${'a'.repeat(32)}`);
  const second = keyring.beginRotation(`kek_${'b'.repeat(32)}`);
  await first;
  await t.throwsAsync(second, { code: 'CONFLICT' });
  t.is(keyring.active.kekVersion, 2);
});

test.serial('a keyring of 64 slots takes no more, and says so', async (t) => {
  const { keyring, vault } = await ground(t);
  for (let n = 1; n < 64; n += 1) {
    await keyring.addSlot(vault.generate('master'), { kind: 'recovery', state: 'active', expiresAt: '' });
  }
  await t.throwsAsync(keyring.addSlot(vault.generate('master'), PENDING), { code: 'CONFLICT', message: /64 slots/ });
  t.is(keyring.slots.length, 64);
});

test.serial('who asks for the newest keyring while it is being read shares the next reading with all others', async (t) => {
  const { disk, vault, master, keyring } = await ground(t);
  let readings = 0;
  const store = new Proxy(disk, {
    get: (target, name) => {
      if (name === 'shared') return {};
      if (name !== 'readKeyring') return Reflect.get(target, name);
      return () => {
        readings += 1;
        return disk.readKeyring();
      };
    },
  });
  const other = Keyring.open(vault, store, master(K1), (await disk.readKeyring())!);
  await keyring.setDefaultKey('k_1');
  const first = other.refresh();
  while (readings === 0) await new Promise((resolve) => setImmediate(resolve));
  await keyring.setDefaultKey('k_2');
  await Promise.all([first, ...Array.from({ length: 1_000 }, () => other.refresh())]);
  t.is(readings, 2);
  t.is(other.defaultKeyId, 'k_2');
});
