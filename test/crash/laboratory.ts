import type { AuditSettings } from '../../dist/audit/chained-log.js';
import type { EmbeddedKms } from '../../dist/create.js';
import type { FileSystem } from '../../dist/store/file-system.js';
import { checkLines, logsOn } from './audit-lines.js';
import { CrashFileSystem } from './crash-file-system.js';
import { Disk } from './disk.js';
import { embeddedThrough } from './faulty-provider.js';
import { checkBackups } from './kept-records.js';
import { audited, Ledger } from './ledger.js';
import { powerCuts } from './power-cuts.js';
import { settledRotation } from './settled-rotation.js';
import { Witness } from './witness.js';

/** What a scenario works with. */
export interface Bench {
  ledger: Ledger;
  /** Opens the service under a master key: the first unless told. The one before must be closed. */
  open(keyFile?: string): Promise<Witness<EmbeddedKms>>;
  /** The key files beyond the first. */
  masters: readonly string[];
}

/** One way of working with a service: `before` makes the ground, `during` is what the crashes meet. Both close what they open. */
export interface Scenario<Made = unknown> {
  name: string;
  before: (bench: Bench) => Promise<Made>;
  during: (bench: Bench, made: Made) => Promise<void>;
  /** With an audit log of these settings; without one unless told. */
  audit?: Partial<AuditSettings>;
}

export interface Bounds {
  /** Disks looked at per instant of a crash, and per instant of a crash in the recovery from it. */
  cuts: number;
  secondCuts: number;
  /** Which share of the recoveries is cut off again: of those from a power cut, and of those from a kill. */
  seconds: number;
  kills: number;
}

export interface Figures {
  /** Instants at which the first power cut was tried. */
  instants: number;
  /** Stores that were opened after one crash, and after a second one. */
  first: number;
  second: number;
}

interface Crash {
  disk: Disk;
  ledger: Ledger;
  /** What the crash kept from happening. */
  before: string;
}

const DATA_DIR = '/srv/data';

/** A promise that a crash broke. */
export class Violation extends Error {
  override name = 'Violation';
}

/** Every crash of a scenario, each on its own copy of the disk, and the service that finds what is left. */
export class Laboratory {
  readonly figures: Figures = { instants: 0, first: 0, second: 0 };
  readonly #masters: string[];
  readonly #random: () => number;
  readonly #bounds: Bounds;
  readonly #through: (system: FileSystem) => FileSystem;
  readonly #looked = new Set<string>();
  #audit: Partial<AuditSettings> | undefined;

  constructor(masters: string[], random: () => number, bounds: Bounds, through = (system: FileSystem) => system) {
    this.#masters = masters;
    this.#random = random;
    this.#bounds = bounds;
    this.#through = through;
  }

  async run<Made>({ before, during, audit }: Scenario<Made>): Promise<void> {
    this.#audit = audit;
    const [first, ...masters] = this.#masters as [string, ...string[]];
    const ledger = new Ledger(new Map(), new Map([[first, 'yes']]));
    const system = new CrashFileSystem(Disk.empty(), this.#random);
    const open = async (keyFile = first) => new Witness(await this.#open(system, keyFile), ledger);
    const bench = { ledger, open, masters };
    const made = await before(bench);
    system.disk.forgetUnsynced();
    const crashes = await this.#recorded(system, ledger, () => during(bench, made));
    this.figures.instants += crashes.length;
    for (const crash of crashes) await this.#afterFirst(crash);
  }

  #open(system: CrashFileSystem, keyFile: string): Promise<EmbeddedKms> {
    return embeddedThrough(this.#through(system), { directory: '/', dataDir: DATA_DIR, keyFile, socket: '' }, this.#audit);
  }

  /** The instants of `work` at which a crash makes a difference: before each change of the disk, and at the end. */
  async #recorded(system: CrashFileSystem, ledger: Ledger, work: () => Promise<void>): Promise<Crash[]> {
    const crashes: Crash[] = [];
    const note = (before: string) => {
      crashes.push({ disk: system.disk.fork(), ledger: ledger.copy(), before });
    };
    system.onChange = note;
    await work();
    system.onChange = () => {};
    note('the end');
    return crashes;
  }

  async #afterFirst(crash: Crash): Promise<void> {
    // A process that is killed leaves all that it changed for the next one, synced or not; the power is cut under that one.
    await this.#recovery(crash, this.#random() < this.#bounds.kills);
    for (const disk of powerCuts(crash.disk, this.#bounds.cuts, this.#random).values()) {
      await this.#recovery({ ...crash, disk }, this.#random() < this.#bounds.seconds);
    }
  }

  async #recovery(crash: Crash, isCutAgain: boolean): Promise<void> {
    for (const [keyFile, opens] of crash.ledger.masters) {
      if (opens === 'maybe' || !this.#isNew(crash, keyFile)) continue;
      this.figures.first += 1;
      const seconds = await this.#boot(crash, keyFile, opens === 'yes', isCutAgain);
      for (const second of seconds) {
        for (const disk of powerCuts(second.disk, this.#bounds.secondCuts, this.#random).values()) {
          if (!this.#isNew({ ...second, disk }, keyFile)) continue;
          this.figures.second += 1;
          await this.#boot({ ...second, disk, before: `${crash.before}, then ${second.before}` }, keyFile, true, false);
        }
      }
    }
  }

  #isNew({ disk, ledger }: Crash, keyFile: string): boolean {
    const key = `${disk.digest()} ${disk.unsynced.length} ${keyFile} ${ledger.text()}`;
    if (this.#looked.has(key)) return false;
    this.#looked.add(key);
    return true;
  }

  /** Opens what a crash left, and returns the crashes that this opening can meet itself. */
  async #boot(crash: Crash, keyFile: string, mayOpen: boolean, isRecorded: boolean): Promise<Crash[]> {
    const system = new CrashFileSystem(crash.disk.fork(), this.#random);
    const ledger = crash.ledger.copy();
    try {
      checkBackups(crash.disk, DATA_DIR, ledger);
      if (this.#audit !== undefined) checkLines(logsOn(crash.disk, DATA_DIR), ledger);
      if (!mayOpen) {
        await this.#mustNotOpen(system, keyFile);
        return [];
      }
      const work = () => this.#service(system, keyFile, ledger);
      if (isRecorded) return await this.#recorded(system, ledger, work);
      await work();
      return [];
    } catch (cause) {
      const names = [...crash.disk.walk()].map(([path, node]) =>
        node.kind === 'file' ? `${path} (${node.content.length})` : path,
      );
      throw new Violation(`power cut before ${crash.before}: ${(cause as Error).message}\n${names.join('\n')}`, { cause });
    }
  }

  async #service(system: CrashFileSystem, keyFile: string, ledger: Ledger): Promise<void> {
    const kms = await this.#open(system, keyFile);
    try {
      // While a rotation that was cut off goes on, and after it has ended by itself.
      ledger.tell(await audited(kms, ledger));
      await settledRotation(kms);
      ledger.tell(await audited(kms, ledger));
      if (this.#audit !== undefined) checkLines(logsOn(system.disk, DATA_DIR), ledger);
      const leftover = [...system.disk.walk()].find(([path]) => path.endsWith('.tmp'));
      if (leftover !== undefined) throw new Error(`${leftover[0]} was left`);
      // It promises on, and the next crash finds that too.
      const witness = new Witness(kms, ledger);
      await witness.sealDefault();
      await witness.seal(await witness.create());
      for (const [keyId, { states, isGone }] of ledger.keys) {
        // What a crash kept from being answered is asked for again.
        if (states[0] === 'destroyed' && isGone !== true) await witness.change(keyId, 'destroyed');
      }
    } finally {
      await kms.close();
    }
  }

  async #mustNotOpen(system: CrashFileSystem, keyFile: string): Promise<void> {
    const code = await this.#open(system, keyFile).then(
      (kms) => kms.close().then(() => 'nothing'),
      (error) => error.code,
    );
    if (code !== 'UNAUTHENTICATED') throw new Error(`a master key that was removed is refused with ${code}`);
  }
}
