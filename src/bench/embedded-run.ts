import { blocksOf, type Group, groupsOf, isMessage, type Plan, paceOf } from './plan.js';
import type { Steps } from './progress.js';
import type { Block, Call, EmbeddedQuestion, Rotated } from './questions.js';
import { type Row, rowOfRotations, rowsOf, type Series } from './rows.js';
import type { Scratch } from './scratch.js';
import { Worker } from './worker.js';

/** Measures the key service in one process of its own, node:crypto in turn with it. */
export async function runEmbedded(plan: Plan, scratch: Scratch, steps: Steps, signal: AbortSignal): Promise<Row[]> {
  const worker = await Worker.start('embedded', signal);
  const ask = <Answer>(question: EmbeddedQuestion, keys = 0) => worker.ask<Answer>(question, (done) => steps.making(done, keys));
  try {
    const { store, keys, rotatedKeys } = plan;
    const { directory, masterKeyFile } = scratch;
    steps.begin('making keys');
    await ask({ do: 'open', store, directory, keys, masterKeyFile }, keys);
    const rows: Row[] = [];
    for (const group of groupsOf(plan, 'embedded')) {
      if (group.operation === 'rotate' && rotatedKeys > keys) {
        steps.begin('making keys');
        await ask({ do: 'make-keys', count: rotatedKeys - keys }, rotatedKeys - keys);
      }
      rows.push(...(await measure(group)));
    }
    return rows;
  } finally {
    await worker.stop();
  }

  async function measure(group: Group): Promise<Row[]> {
    const { operation, size } = group;
    if (operation === 'rotate') return [rowOfRotations(group, await repeat<Rotated>('rotate', { do: 'rotate' }))];
    if (!isMessage(operation)) {
      const pace = paceOf(group, 'createDek', plan.seconds);
      const blocks = await repeat<Block>('create', { do: 'create', pace });
      return rowsOf(group, [{ subject: 'createDek', blocks, serverCpuNs: [], keys: 0 }], null);
    }
    const { keys } = await ask<{ keys: number }>({ do: 'prepare', operation, size: size as number });
    const series: Series[] = group.subjects.map((subject) => ({ subject, blocks: [], serverCpuNs: [], keys }));
    for (let turn = plan.warmUp > 0 ? -1 : 0; turn < plan.repeats; turn++) {
      for (const { subject, blocks } of series) {
        steps.begin(`embedded ${operation}, ${subject}`);
        const call = subject as Call;
        if (turn < 0) await ask({ do: 'warm-up', call, seconds: plan.warmUp });
        else blocks.push(await ask<Block>({ do: 'messages', call, seconds: plan.seconds }));
        steps.end();
      }
    }
    return rowsOf(group, series, null);
  }

  async function repeat<Answer>(what: string, question: EmbeddedQuestion): Promise<Answer[]> {
    const answers: Answer[] = [];
    for (let turn = 0; turn < plan.repeats; turn++) {
      steps.begin(`embedded ${what}`);
      answers.push(await ask<Answer>(question));
      steps.end();
    }
    return answers;
  }
}

/** Blocks that `runEmbedded` ends. */
export function embeddedBlocks(plan: Plan): number {
  return blocksOf(groupsOf(plan, 'embedded'), plan);
}
