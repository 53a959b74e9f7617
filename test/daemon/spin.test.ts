import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { Authentication } from '../../dist/daemon/authentication.js';
import { ANONYMOUS } from '../../dist/daemon/identity.js';
import { Spin } from '../../dist/daemon/spin.js';
import { OP } from '../../dist/wire/frames.js';
import { running } from './running.js';

/** A clock that moves on by a millisecond whenever it is looked at, and counts how often that was. */
function counted() {
  const clock = { looks: 0, now: () => ++clock.looks };
  return clock;
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

test.serial('a spin turns until its time is up, and then leaves the loop alone', async (t) => {
  const clock = counted();
  const spin = new Spin(10, clock.now);
  spin.goOn();
  await turns(100);
  // The look of goOn, and those of the turns up to the millisecond that is not before its end.
  t.is(clock.looks, 11);
  spin.goOn();
  await turns(100);
  t.is(clock.looks, 22);
});

test.serial('what comes while it spins makes it longer, and not two of it', async (t) => {
  const clock = counted();
  const spin = new Spin(10, clock.now);
  spin.goOn();
  spin.goOn();
  spin.goOn();
  await turns(100);
  t.is(clock.looks, 13);
});

test.serial('timers ring while it spins', async (t) => {
  let elapsed = 0;
  const spin = new Spin(1, () => elapsed);
  spin.goOn();
  await new Promise((resolve) => setTimeout(resolve, 1));
  elapsed = 2;
  await turns(2);
  t.pass();
});

const isTurning = () => process.getActiveResourcesInfo().includes('Immediate');

/** In one of many looks, which a spin would outlast: something else may have an immediate for a moment. */
async function sleeps(): Promise<boolean> {
  for (let look = 0; look < 50; look++) {
    if (!isTurning()) return true;
    await delay(5);
  }
  return false;
}

test.serial('a daemon spins after a request, and sleeps again when nobody asks for anything', async (t) => {
  // Longer than may be configured: the machine may be slow.
  const { connect } = await running(t, { dev: true }, { spinUs: 3_000_000 });
  const peer = await connect();
  const asked = performance.now();
  t.is(await peer.outcome(OP.hello, 1, null), 'OK');
  await delay(20);
  t.true(isTurning() || performance.now() - asked > 2_900);
  while (isTurning()) await delay(20);
  await delay(20);
  t.true(await sleeps());
});

test.serial('a daemon does not spin for who has not said who it is', async (t) => {
  const ofPeer = Reflect.get(Authentication.prototype, 'ofPeer');
  Authentication.prototype.ofPeer = () => ANONYMOUS;
  t.teardown(() => {
    Authentication.prototype.ofPeer = ofPeer;
  });
  const { connect } = await running(t, { dev: true }, { spinUs: 3_000_000 });
  const peer = await connect();
  t.is(await peer.outcome(OP.createDek, null), 'UNAUTHENTICATED');
  await delay(20);
  t.true(await sleeps());
});

test.serial('a daemon that is not told to spin does not', async (t) => {
  const peer = await (await running(t)).connect();
  t.is(await peer.outcome(OP.hello, 1, null), 'OK');
  await delay(20);
  t.true(await sleeps());
});

test.serial('a daemon that spins serves, and stops while somebody is connected', async (t) => {
  const { connect, daemon } = await running(t, { dev: true, spinUs: 10_000 });
  const peers = await Promise.all([connect(), connect()]);
  for (const peer of peers) {
    const key = (await peer.ask(OP.createDek, null)).results[0];
    t.is(await peer.outcome(OP.encrypt, key, Buffer.alloc(100), null), 'OK');
  }
  await daemon.stop();
  await Promise.all(peers.map(({ closed }) => closed));
  t.is(daemon.connections(), 0);
});
