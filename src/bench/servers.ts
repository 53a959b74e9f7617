import { writeFileSync } from 'node:fs';
import { spawnKms } from '../client/index.js';
import { type Existing, PLAIN_HTTP, type Plan, type Protocol } from './plan.js';
import type { Steps } from './progress.js';
import type { GeneratorQuestion, Target } from './questions.js';
import type { Scratch } from './scratch.js';
import { Worker } from './worker.js';

/** A server, and the process that sends it requests by one protocol. */
export interface Side {
  subject: string;
  target: Target;
  generator: Worker;
  /** Of the server; undefined for a daemon that is not ours. */
  pid: number | undefined;
}

/** Everything that runs for the daemon's figures, from its start to its end. An idle server costs nothing. */
export class Servers {
  readonly sides: Side[] = [];
  private readonly ends: Array<() => Promise<void>> = [];

  private constructor(
    private readonly plan: Plan,
    private readonly scratch: Scratch,
    private readonly signal: AbortSignal,
  ) {}

  /** `existing` is a daemon to be used instead of one of our own. */
  static async start(
    plan: Plan,
    existing: Existing | undefined,
    scratch: Scratch,
    steps: Steps,
    signal: AbortSignal,
  ): Promise<Servers> {
    const servers = new Servers(plan, scratch, signal);
    try {
      steps.begin('starting servers');
      await servers.addDaemon(existing, steps);
      if (plan.baseline) await servers.addPlain();
      return servers;
    } catch (error) {
      await servers.stop();
      throw error;
    }
  }

  async stop(): Promise<void> {
    // The last one first: who calls before who answers.
    for (const end of this.ends.splice(0).reverse()) await end();
  }

  /** Keys that no message goes to. */
  async addKeys(count: number, steps: Steps): Promise<void> {
    const side = this.sides[0] as Side;
    await side.generator.ask(connection(side));
    const ask: GeneratorQuestion = { do: 'add-keys', count };
    await side.generator.ask(ask, (done) => steps.making(done, count));
  }

  private async addDaemon(existing: Existing | undefined, steps: Steps): Promise<void> {
    const { protocols, keys } = this.plan;
    const [endpoints, pid] = existing === undefined ? await this.startDaemon() : [existing.endpoints, undefined];
    for (const protocol of protocols) {
      const { caller = {}, serverUids = [] } = existing ?? {};
      const endpoint = endpoints[protocol] as string;
      await this.addSide({ subject: protocol, target: { kind: 'kms', endpoint, caller, serverUids }, pid });
    }
    const file = this.scratch.keyFile;
    if (existing === undefined) await this.makeKeys(keys, file, steps);
    else writeFileSync(file, existing.keyId, { mode: 0o600 });
    for (const { generator } of this.sides) await generator.ask({ do: 'read-keys', file } satisfies GeneratorQuestion);
  }

  private async makeKeys(count: number, file: string, steps: Steps): Promise<void> {
    const side = this.sides[0] as Side;
    await side.generator.ask(connection(side));
    const ask: GeneratorQuestion = { do: 'make-keys', count, file };
    await side.generator.ask(ask, (done) => steps.making(done, count));
  }

  /** The command line's own `serve`, with everything it does by default. */
  private async startDaemon(): Promise<[Record<Protocol, string>, number | undefined]> {
    const { dataDir, masterKeyFile } = this.scratch;
    const socket = this.scratch.path('kms.sock');
    const silent = () => {};
    const logger = { debug: silent, info: silent, warn: silent, error: silent };
    const daemon = await spawnKms({ dataDir, masterKeyFile, socket, maxRestarts: 0, logger });
    this.ends.push(() => daemon.stop());
    this.signal.throwIfAborted();
    return [{ binary: `unix:${socket}`, http: `http+unix:${socket}` }, daemon.pid];
  }

  private async addPlain(): Promise<void> {
    const socket = this.scratch.path('plain.sock');
    const server = await Worker.start('plain-server', this.signal);
    this.ends.push(() => server.stop());
    const { keys } = this.plan;
    await server.ask({ do: 'listen', socket, keys });
    const { generator } = await this.addSide({ subject: PLAIN_HTTP, target: { kind: 'plain', socket }, pid: server.pid });
    await generator.ask({ do: 'number-keys', count: keys } satisfies GeneratorQuestion);
  }

  private async addSide(about: Omit<Side, 'generator'>): Promise<Side> {
    const generator = await Worker.start('generator', this.signal);
    this.ends.push(() => generator.stop());
    const side = { ...about, generator };
    this.sides.push(side);
    return side;
  }
}

export function connection({ target }: Side, connections = 1, sockets = 64): GeneratorQuestion {
  return { do: 'connect', target, connections, sockets };
}
