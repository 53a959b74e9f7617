import { type DaemonFlags, type Shown, showConfig } from '../../daemon/config.js';
import type { Output } from '../output.js';

function textOf(value: Shown['value']): string {
  return value === null ? '-' : [value].flat().join(',') || 'none';
}

/** Shows what `serve` with the same flags, environment and file would go by. Secrets are not among it. */
export function configCommand(flags: DaemonFlags, env: NodeJS.ProcessEnv, output: Output): void {
  const { shown, warnings } = showConfig(flags, env);
  for (const { source, advice } of warnings) output.note(`warning: ${source}: ${advice}`);
  const width = (of: (row: Shown) => string) => Math.max(...shown.map((row) => of(row).length)) + 2;
  const keys = width(({ key }) => key);
  const values = width(({ value }) => textOf(value));
  const lines = shown.map(({ key, value, source }) => `${key.padEnd(keys)}${textOf(value).padEnd(values)}${source}`);
  output.result(Object.fromEntries(shown.map(({ key, value, source }) => [key, { value, source }])), lines.join('\n'));
}
