import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { KmsClient } from '../../dist/client/kms-client.js';
import { type Child, ChildDaemon, embeddedChild } from './child.js';
import type { DiskImage } from './disk-image.js';
import { connectedTo, embeddedOn, type Ground } from './ground.js';
import { audited, Ledger } from './ledger.js';
import { Load } from './load.js';
import { settledRotation } from './settled-rotation.js';
import { hear } from './told-ledger.js';

const CONNECTIONS = 3;
const WORKERS = 4;
const LONGEST_MS = 150;
const START_MS = 20;

/** Power cuts under one running process: its disk is copied at random instants, and each copy opened as after the cut. */
export class ImageRounds {
  readonly ledger = new Ledger();
  readonly #image: DiskImage;
  readonly #name: string;
  readonly #ground: Ground;
  readonly #random: () => number;

  /** `name` is of the data directory on the image. */
  constructor(image: DiskImage, ground: Ground, random: () => number, name = 'data') {
    this.#image = image;
    this.#name = name;
    this.#ground = { ...ground, dataDir: join(image.path, name) };
    this.#random = random;
  }

  /** A daemon under load, with rotations. Throws at the first cut that breaks a promise. */
  async daemon(cuts: number): Promise<Load> {
    const load = new Load(this.ledger, this.#random);
    const daemon = new ChildDaemon(this.#ground);
    const connections: KmsClient[] = [];
    try {
      await daemon.ready;
      for (let made = 0; made < CONNECTIONS; made += 1) connections.push(await connectedTo(this.#ground));
      const working = load.run(connections, WORKERS);
      // A load that fails ends the daemon, and with it the cuts.
      working.catch(() => daemon.kill());
      while (load.rotations === 0 && daemon.process.exitCode === null && daemon.process.signalCode === null) await delay(1);
      await this.#cuts(daemon, cuts);
      load.stop();
      await working;
    } finally {
      load.stop();
      await daemon.kill();
      for (const kms of connections) await kms.close();
    }
    return load;
  }

  /** A process that says that it synced and did not: what shows that a copy of the device is a power cut. */
  async careless(cuts: number): Promise<void> {
    const child = embeddedChild('careless', this.#ground);
    child.onLine = (line) => void hear(this.ledger, line);
    try {
      await this.#cuts(child, cuts);
    } finally {
      await child.kill();
    }
  }

  async #cuts(child: Child, cuts: number): Promise<void> {
    while (this.ledger.keys.size === 0 && child.process.exitCode === null && child.process.signalCode === null) await delay(1);
    for (let cut = 0; cut < cuts && child.process.signalCode === null; cut += 1) {
      await delay(START_MS + this.#random() * LONGEST_MS);
      await this.#cut(child);
    }
  }

  async #cut(child: Child): Promise<void> {
    // Copied before the process stops: what is answered later is an intent here, and may be found or not.
    const ledger = this.ledger.copy();
    child.process.kill('SIGSTOP');
    const copy = await this.#image.afterPowerCut(this.#ground.directory);
    child.process.kill('SIGCONT');
    try {
      const kms = await embeddedOn({ ...this.#ground, dataDir: join(copy.path, this.#name) });
      try {
        await settledRotation(kms);
        await audited(kms, ledger);
      } finally {
        await kms.close();
      }
    } finally {
      copy.remove();
    }
  }
}
