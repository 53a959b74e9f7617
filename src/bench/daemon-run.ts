import {
  blocksOf,
  type Existing,
  type Group,
  groupsOf,
  isMessage,
  type Operation,
  type Plan,
  paceOf,
  socketsOf,
} from './plan.js';
import type { Steps } from './progress.js';
import type { Block, GeneratorQuestion, Rotated } from './questions.js';
import { type Row, rowOfRotations, rowsOf, type Series } from './rows.js';
import type { Scratch } from './scratch.js';
import { cpuNsOf } from './server-cpu.js';
import { connection, Servers, type Side } from './servers.js';

/** Measures a daemon over its protocols, a server of node:http in turn with it. */
export async function runDaemon(
  plan: Plan,
  existing: Existing | undefined,
  scratch: Scratch,
  steps: Steps,
  signal: AbortSignal,
): Promise<Row[]> {
  const servers = await Servers.start(plan, existing, scratch, steps, signal);
  try {
    const rows: Row[] = [];
    for (const group of groupsOf(plan, 'daemon')) rows.push(...(await measure(group, plan, servers, steps)));
    return rows;
  } finally {
    await servers.stop();
  }
}

/** Blocks that `runDaemon` ends. */
export function daemonBlocks(plan: Plan): number {
  return blocksOf(groupsOf(plan, 'daemon'), plan);
}

async function measure(group: Group, plan: Plan, servers: Servers, steps: Steps): Promise<Row[]> {
  const sides = servers.sides.filter(({ subject }) => group.subjects.includes(subject));
  if (group.operation === 'rotate') return [await rotations(group, plan, servers, steps)];
  const operation = group.operation;
  const series: Array<Series & { side: Side }> = [];
  for (const side of sides) {
    steps.begin(nameOf(operation, side));
    // Over HTTP each request under way has a connection of its own, however many clients there are.
    const clients = side.subject === 'binary' ? (group.connections ?? 1) : 1;
    await side.generator.ask(connection(side, clients, socketsOf(group)));
    series.push({ side, subject: side.subject, blocks: [], serverCpuNs: [], keys: await prepare(side, group) });
  }
  const warms = isMessage(operation) && plan.warmUp > 0;
  for (let turn = warms ? -1 : 0; turn < plan.repeats; turn++) {
    for (const { side, blocks, serverCpuNs } of series) {
      steps.begin(nameOf(operation, side));
      if (turn < 0) await side.generator.ask(question('warm-up', group, side, plan));
      else await block(side, question('messages', group, side, plan), blocks, serverCpuNs);
      steps.end();
    }
  }
  return rowsOf(group, series, isMessage(operation) ? plan.rate : null);
}

/** Resolves to how many keys messages go to. */
async function prepare({ generator }: Side, { operation, size }: Group): Promise<number> {
  if (!isMessage(operation)) return 0;
  const ask: GeneratorQuestion = { do: 'prepare', operation, size: size as number };
  return (await generator.ask<{ keys: number }>(ask)).keys;
}

function question(kind: 'warm-up' | 'messages', group: Group, { subject }: Side, plan: Plan): GeneratorQuestion {
  const { operation } = group;
  const pace = paceOf(group, subject, kind === 'warm-up' ? plan.warmUp : plan.seconds, plan.rate);
  return isMessage(operation) ? { do: kind, operation, pace } : { do: 'create', pace };
}

async function block(side: Side, ask: GeneratorQuestion, blocks: Block[], serverCpuNs: Array<number | undefined>): Promise<void> {
  const before = cpuNsOf(side.pid);
  blocks.push(await side.generator.ask<Block>(ask));
  const after = cpuNsOf(side.pid);
  serverCpuNs.push(before === undefined || after === undefined ? undefined : after - before);
}

async function rotations(group: Group, { repeats, keys, rotatedKeys }: Plan, servers: Servers, steps: Steps): Promise<Row> {
  const side = servers.sides[0] as Side;
  if (rotatedKeys > keys) await servers.addKeys(rotatedKeys - keys, steps);
  const rotated: Rotated[] = [];
  for (let turn = 0; turn < repeats; turn++) {
    steps.begin(nameOf('rotate', side));
    rotated.push(await side.generator.ask<Rotated>({ do: 'rotate' } satisfies GeneratorQuestion));
    steps.end();
  }
  return rowOfRotations(group, rotated);
}

function nameOf(operation: Operation, { subject }: Side): string {
  return `daemon ${operation}, ${subject}`;
}
