import test from 'ava';
import { K1, openOn, STORES, storeWith } from './stores.js';

const text = Buffer.from('a message');

for (const [name, open] of STORES) {
  for (const state of ['disabled', 'destroyed'] as const) {
    test(`a key that is ${state} before its maker hears that it is durable does not serve, ${name}`, async (t) => {
      const real = await open(t);
      let isHeld = false;
      let release: (() => void) | undefined;
      const store = storeWith(real, async (method, write) => {
        const result = await write();
        if (isHeld && (method === 'createRecord' || method === 'createMany')) await new Promise<void>((go) => (release = go));
        return result;
      });
      const kms = await openOn(t, store, K1);
      isHeld = true;
      const making = kms.createDek();
      while (release === undefined) await new Promise((resolve) => setImmediate(resolve));
      const [{ keyId } = { keyId: '' }] = (await kms.listKeys()).keys;
      await kms.disableKey(keyId);
      if (state === 'destroyed') await kms.destroyKey(keyId);
      (release as () => void)();
      t.is((await making).keyId, keyId);
      const code = state === 'disabled' ? 'KEY_DISABLED' : 'KEY_DESTROYED';
      await t.throwsAsync(kms.encryptWithDek(keyId, text), { code });
      t.throws(() => kms.encryptSync(keyId, text), { code });
    });
  }
}
