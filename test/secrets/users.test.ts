import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { connectKms } from '../../dist/client/index.js';
import { type DaemonFlags, resolveConfig } from '../../dist/daemon/config.js';
import type { Access } from '../../dist/daemon/identity.js';
import type { Fields } from '../../dist/daemon/log.js';
import { startDaemon } from '../../dist/daemon/main.js';
import { encodeRequest } from '../../dist/wire/messages.js';
import { skipped } from './scanner.js';
import { type Printed, place } from './served.js';
import { becomingHindrance, Installation, linesOf } from './users.js';

const hindrance = becomingHindrance();
const ALICE = 12_345;
const BOB = 12_346;
const NOBODY = 65_534;
const HELLO = encodeRequest(1, 0, [1, null]).toString('hex');

let installation: Installation;
test.before(() => {
  if (hindrance === undefined) installation = new Installation();
});
test.after.always(() => installation?.remove());

interface Open {
  socket: string;
  /** A key of the daemon's own. */
  keyId: string;
  /** What the daemon's log says of peers that it refused. */
  refusals: Fields[];
}

/** A daemon of ours whose socket every user can reach: nothing but the check of their uid stands in their way. */
async function open(t: ExecutionContext, flags: DaemonFlags, access?: Access): Promise<Open> {
  const { directory, dataDir, masterKeyFile, socket } = place(t);
  const config = resolveConfig({ dataDir, masterKeyFile, socket, ...flags }, {});
  const refusals: Fields[] = [];
  const daemon = await startDaemon({ ...config, access: access ?? config.access }, (_, event, fields = {}) => {
    if (event === 'peer_refused') refusals.push(fields);
  });
  t.teardown(() => daemon.stop());
  chmodSync(directory, 0o755);
  chmodSync(socket, 0o666);
  const { keyId } = await daemon.kms.createDek();
  return { socket, keyId, refusals };
}

const CLIENT = {
  connect: 'OK',
  encrypt: 'OK',
  encryptLarge: 'OK',
  encryptMany: 'OK',
  encryptDefault: 'OK',
  create: 'OK',
  getWrapped: 'PERMISSION_DENIED',
  status: 'PERMISSION_DENIED',
  describe: 'PERMISSION_DENIED',
  list: 'PERMISSION_DENIED',
  disable: 'PERMISSION_DENIED',
  enable: 'PERMISSION_DENIED',
  seal: 'PERMISSION_DENIED',
  unseal: 'PERMISSION_DENIED',
};
const AUDITOR = {
  ...CLIENT,
  encrypt: 'PERMISSION_DENIED',
  encryptLarge: 'PERMISSION_DENIED',
  encryptMany: 'PERMISSION_DENIED',
  encryptDefault: 'PERMISSION_DENIED',
  create: 'PERMISSION_DENIED',
  status: 'OK',
  describe: 'OK',
  list: 'OK',
};
const ADMIN = Object.fromEntries(Object.keys(CLIENT).map((operation) => [operation, 'OK']));

test.serial('a process of another user is refused, whether it speaks or not, and gets no byte', async (t) => {
  if (skipped(t, hindrance)) return;
  const { socket, refusals, keyId } = await open(t, {});
  // The silent one shows that nothing it could say is waited for.
  t.deepEqual(await installation.run(ALICE, { verb: 'knock', socket, hex: '' }), [{ received: 0 }]);
  t.deepEqual(await installation.run(ALICE, { verb: 'knock', socket, hex: HELLO }), [{ received: 0 }]);
  t.deepEqual(await installation.run(ALICE, { verb: 'use', socket, keyId }), [{ connect: 'STORE_UNAVAILABLE' }]);
  t.is(refusals.length, 3);
  for (const { uid, reason } of refusals) t.deepEqual({ uid, reason }, { uid: ALICE, reason: 'this uid is not configured' });
  t.deepEqual(
    await installation.run(0, { verb: 'use', socket, keyId }),
    [ADMIN],
    'the same process of our own user may everything',
  );
});

test.serial('a user that is allowed is a client and no more', async (t) => {
  if (skipped(t, hindrance)) return;
  const { socket, refusals, keyId } = await open(t, { allowedUids: String(ALICE) });
  t.deepEqual(await installation.run(ALICE, { verb: 'use', socket, keyId }), [CLIENT]);
  t.deepEqual(refusals, []);
  t.deepEqual(await installation.run(BOB, { verb: 'knock', socket, hex: HELLO }), [{ received: 0 }]);
  t.deepEqual(
    refusals.map(({ uid }) => uid),
    [BOB],
  );
});

test.serial('an auditor may look and not touch, an admin may everything', async (t) => {
  if (skipped(t, hindrance)) return;
  const { socket, keyId } = await open(t, { auditorUids: String(ALICE), adminUids: String(BOB) });
  t.deepEqual(await installation.run(ALICE, { verb: 'use', socket, keyId }), [AUDITOR]);
  t.deepEqual(await installation.run(BOB, { verb: 'use', socket, keyId }), [ADMIN]);
});

test.serial('the overflow uid is refused even by a daemon that was made to list it', async (t) => {
  if (skipped(t, hindrance)) return;
  for (const list of ['allowedUids', 'adminUids', 'auditorUids'] as const) {
    const error = t.throws(() => resolveConfig({ dev: true, [list]: `0,${NOBODY}` }, {}));
    t.regex(error.message, /must not hold 65534/);
  }
  const everywhere = { allowedUids: [NOBODY], adminUids: [NOBODY], auditorUids: [NOBODY], unauthenticatedLoopbackRoles: [] };
  const { socket, refusals, keyId } = await open(t, {}, everywhere);
  t.deepEqual(await installation.run(NOBODY, { verb: 'knock', socket, hex: HELLO }), [{ received: 0 }]);
  t.deepEqual(await installation.run(NOBODY, { verb: 'use', socket, keyId }), [{ connect: 'STORE_UNAVAILABLE' }]);
  t.is(refusals.length, 2);
});

/** A master key file and a data directory of that user. */
function storeOf(uid: number): { socket: string; dataDir: string; masterKeyFile: string } {
  const directory = installation.directoryOf(uid);
  const masterKeyFile = join(directory, 'master.key');
  writeFileSync(masterKeyFile, `${randomBytes(32).toString('hex')}\n`, { mode: 0o600 });
  chownSync(masterKeyFile, uid, uid);
  return { socket: join(directory, 'kms.sock'), dataDir: join(directory, 'data'), masterKeyFile };
}

test.serial('a daemon does not run as the overflow uid', async (t) => {
  if (skipped(t, hindrance)) return;
  const printed = await installation.background(t, NOBODY, { verb: 'serve', ...storeOf(NOBODY), allowedUids: '' });
  t.regex(String(linesOf(printed).at(-1)?.['refused']), /^PERMISSION_DENIED: .*65534/);
});

test.serial('a client refuses a daemon of another user until it is told of it', async (t) => {
  if (skipped(t, hindrance)) return;
  const store = storeOf(BOB);
  const { socket } = store;
  const printed = await installation.background(t, BOB, { verb: 'serve', ...store, allowedUids: `0,${ALICE}` });
  t.deepEqual(linesOf(printed).at(-1), { serving: true });
  const keyId = (await trusted(socket)).keyId;
  t.deepEqual(await installation.run(ALICE, { verb: 'use', socket, keyId }), [{ connect: 'PERMISSION_DENIED' }]);
  t.deepEqual(
    await installation.run(0, { verb: 'use', socket, keyId }),
    [{ connect: 'PERMISSION_DENIED' }],
    'root is no exception',
  );
  t.deepEqual(await installation.run(ALICE, { verb: 'use', socket, keyId, serverUids: [BOB] }), [CLIENT]);
  t.deepEqual(await installation.run(BOB, { verb: 'use', socket, keyId }), [ADMIN], 'its own user needs no telling');
});

async function trusted(socket: string): Promise<{ keyId: string }> {
  const kms = await connectKms({ socket, serverUids: [BOB] });
  try {
    return await kms.createDek();
  } finally {
    await kms.close();
  }
}

test.serial('a client says nothing to a server of another user', async (t) => {
  if (skipped(t, hindrance)) return;
  const { socket } = storeOf(BOB);
  const printed = await installation.background(t, BOB, { verb: 'squat', socket });
  const use = { verb: 'use', socket, keyId: 'k_1' } as const;
  t.deepEqual(await installation.run(ALICE, use), [{ connect: 'PERMISSION_DENIED' }]);
  await heard(printed, 1);
  t.deepEqual(await installation.run(ALICE, { verb: 'knock', socket, hex: HELLO }), [{ received: 0 }]);
  await heard(printed, 2);
  const visitors = linesOf(printed).slice(1);
  t.deepEqual(visitors, [{ received: 0 }, { received: HELLO.length / 2 }], 'the second one shows that it hears what is said');
});

async function heard(printed: Printed, visitors: number): Promise<void> {
  while (linesOf(printed).length < 1 + visitors) await new Promise((wake) => setTimeout(wake, 10));
}
