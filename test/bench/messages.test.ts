import test from 'ava';
import { Messages } from '../../dist/bench/messages.js';
import { open, plainKeys, seal } from '../../dist/bench/plain-crypto.js';
import type { Sealer } from '../../dist/bench/sealer.js';

const keys = plainKeys(3);
const ids = ['0', '1', '2'];
const none = new Uint8Array(0);

const sealer: Sealer = {
  encryptWithDek: async (keyId, bytes, aad = none) => ({ ciphertext: seal(keys[Number(keyId)]!, bytes, aad), keyVersion: '1' }),
  decryptWithDek: async (keyId, bytes, aad = none) => open(keys[Number(keyId)]!, bytes, aad),
  close: async () => {},
};

async function measured(which: 'encrypt' | 'decrypt', by: Sealer): Promise<number> {
  const messages = new Messages(ids, 100);
  await messages.seal(sealer);
  const operate = messages.operation(which, [by]);
  for (let index = 0; index < 2_000; index++) await operate(index);
  return messages.verify(which, sealer);
}

test('answers of a server that is right are taken, some of them opened and compared', async (t) => {
  t.is(await measured('encrypt', sealer), 2);
  t.is(await measured('decrypt', sealer), 2);
});

test('an answer of the wrong length ends the measurement, whichever it is', async (t) => {
  let answers = 0;
  const cutting = <T extends Uint8Array>(bytes: T) => (++answers === 1_500 ? bytes.subarray(1) : bytes);
  const short: Sealer = {
    ...sealer,
    encryptWithDek: async (...given) => ({
      ciphertext: cutting((await sealer.encryptWithDek(...given)).ciphertext),
      keyVersion: '1',
    }),
    decryptWithDek: async (...given) => cutting(await sealer.decryptWithDek(...given)),
  };
  await t.throwsAsync(measured('encrypt', short), { code: 'INTERNAL', message: /an answer has 127 bytes/ });
  answers = 0;
  await t.throwsAsync(measured('decrypt', short), { code: 'INTERNAL', message: /an answer has 99 bytes/ });
});

test('a ciphertext that does not open, and a plaintext that is another one, are found out', async (t) => {
  const copying: Sealer = {
    ...sealer,
    encryptWithDek: async (_, bytes) => ({ ciphertext: Buffer.alloc(bytes.length + 28), keyVersion: '1' }),
  };
  await t.throwsAsync(measured('encrypt', copying));
  const zeros: Sealer = { ...sealer, decryptWithDek: async (_, bytes) => Buffer.alloc(bytes.length - 28) };
  await t.throwsAsync(measured('decrypt', zeros), { code: 'INTERNAL', message: /what was decrypted is not the message/ });
});

test('messages go to every one of the keys', async (t) => {
  const met = new Set<string>();
  const noting: Sealer = {
    ...sealer,
    encryptWithDek: async (keyId, ...rest) => {
      met.add(keyId);
      return sealer.encryptWithDek(keyId, ...rest);
    },
  };
  await measured('encrypt', noting);
  t.deepEqual([...met].sort(), ids);
});

test('what node:crypto seals in the baseline is bound to its key and its AAD', (t) => {
  const [key, other] = keys;
  const sealed = seal(key!, Buffer.from('message'), Buffer.from('aad'));
  t.is(open(key!, sealed, Buffer.from('aad')).toString(), 'message');
  t.throws(() => open(other!, sealed, Buffer.from('aad')));
  t.throws(() => open(key!, sealed, Buffer.from('other')));
});
