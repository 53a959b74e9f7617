import test from 'ava';
import { SigningKeys } from '../../dist/audit/signing-keys.js';
import { arenaInfo, Vault } from '../../dist/vault.js';

test('a successor that cannot be kept leaves no key behind, however often that is tried', async (t) => {
  const vault = Vault.open({ arenaBytes: 64 * 1024, keptContexts: 0 }, 10);
  t.teardown(() => vault.close());
  let fails = true;
  const keys = SigningKeys.open(
    vault,
    {
      auditKeys: [],
      wrapSigning: () => new Uint8Array(60),
      unwrapSigning: () => 0,
      setAuditKeys: async () => {
        if (fails) throw new Error('the disk');
      },
    },
    '',
  );
  const { used } = arenaInfo();
  for (let i = 0; i < 20; i += 1) await t.throwsAsync(keys.prepare(), { message: 'the disk' });
  t.is(arenaInfo().used, used);
  fails = false;
  await keys.prepare();
  t.is(arenaInfo().used, used + 1, 'one that is kept is seen');
});
