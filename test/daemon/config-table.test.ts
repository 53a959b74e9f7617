import { resolve } from 'node:path';
import test from 'ava';
import { NAMES, type Name, placeOf, SCHEMA } from '../../dist/daemon/config/schema.js';
import { DEFAULT_DATA_DIR } from '../../dist/daemon/defaults.js';
import { rowsOf, textOf } from '../house/sources.js';

/** A cell's code spans. */
function spans(cell: string): string[] {
  return [...cell.matchAll(/`([^`]+)`/g)].map(([, text]) => text!);
}

/** The rows of the configuration's table, in their order. */
const rows = rowsOf('docs/RUNBOOK.md', /^(`[a-z_.]+`.*)?$/).filter(([, flag]) => flag === '' || /^`--/.test(flag ?? ''));
const defaults: Record<string, unknown> = SCHEMA.parse({});

/** Those that are not the same on every machine are written in words. */
const IN_WORDS: Partial<Record<Name, string>> = { workers: 'cores − 1' };

function written(value: unknown): string {
  if (value === undefined) return '';
  if (Array.isArray(value)) return value.length === 0 ? 'none' : `\`${value.join(',')}\``;
  return `\`${value === resolve(DEFAULT_DATA_DIR) ? DEFAULT_DATA_DIR : value}\``;
}

test('docs/RUNBOOK.md has the same table of keys, flags, variables and defaults', (t) => {
  t.deepEqual(
    rows.map(([key, flag, variable, fallback, about]) => [
      spans(key!),
      spans(flag!),
      spans(variable!),
      fallback,
      /^live;/.test(about!),
    ]),
    NAMES.map((name) => {
      const { yaml = [], flag, variables = [], live = false } = placeOf(name);
      const fallback = IN_WORDS[name] ?? written(defaults[name]);
      return [[...yaml], flag === undefined ? [] : [`--${flag}`], [...variables], fallback, live];
    }),
  );
});

test('every flag of the schema is one of the command line, and is named there', (t) => {
  const program = textOf('src/cli/program.ts');
  for (const name of NAMES) {
    const { flag } = placeOf(name);
    if (flag !== undefined) t.regex(program, new RegExp(`option\\('--${flag}[' ]`), name);
  }
});
