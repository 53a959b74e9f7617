import test from 'ava';
import { rowsOf, textOf } from '../house/sources.js';
import { skipped } from '../secrets/scanner.js';
import { alertExpressions, dashboardExpressions, metricsInUse, metricsOf } from './metric-names.js';

/** The rows of the RUNBOOK's tables of metrics and of alarms. */
const METRICS = rowsOf('docs/RUNBOOK.md', /^`\w+`(, `\w+`)*$/).filter((cells) => /^(counter|gauge|histogram)$/.test(cells[1]!));
const ALARMS = rowsOf('docs/RUNBOOK.md', /^[a-z]/).filter((cells) => cells.length === 4 && /^`.*[<>=]/.test(cells[1]!));
const UNWRITTEN = METRICS.length === 0 ? 'needs the table of metrics in docs/RUNBOOK.md' : undefined;

/** The series of each metric as they are scraped. */
function documented(): Set<string> {
  const series = METRICS.flatMap(([names, type]) =>
    [...names!.matchAll(/`(\w+)`/g)].flatMap(([, name]) => {
      const whole = name!.startsWith('process_') ? name! : `progressdb_kms_${name}`;
      return type === 'histogram' ? ['_bucket', '_sum', '_count'].map((end) => whole + end) : [whole];
    }),
  );
  return new Set(['up', ...series]);
}

test('names of metrics are found in an expression, and not in its labels', (t) => {
  const expression = 'rate(progressdb_kms_a_total{reason=~"up|process_x"}[5m]) / process_b > up';
  t.deepEqual(metricsOf(expression), ['progressdb_kms_a_total', 'process_b', 'up']);
});

test('every panel of the dashboard asks for something, and every alert too', (t) => {
  const { panels } = JSON.parse(textOf('deploy/grafana/dashboard.json'));
  const rows = new Set(
    panels.filter(({ type }: { type: string }) => type === 'row').map(({ title }: { title: string }) => title),
  );
  for (const [title, expressions] of dashboardExpressions()) t.is(expressions.length === 0, rows.has(title), title);
  t.is(new Set(panels.map(({ id }: { id: number }) => id)).size, panels.length);
  for (const [alert, expression] of alertExpressions()) t.true(metricsOf(expression).length > 0, alert);
});

test('every metric of the dashboard and of the alerts is in docs/RUNBOOK.md', (t) => {
  t.true(metricsInUse().length > 25);
  if (skipped(t, UNWRITTEN)) return;
  const known = documented();
  t.deepEqual(
    metricsInUse().filter((name) => !known.has(name)),
    [],
  );
});

test('the alerts are those of the table in docs/RUNBOOK.md, with the same expressions', (t) => {
  if (skipped(t, UNWRITTEN)) return;
  // The job is what a scraper calls it, which the table leaves open.
  const plain = (expression: string) => expression.replaceAll('{job="progressdb-kms"}', '').replaceAll('\\|', '|');
  t.deepEqual(
    [...alertExpressions().values()].map(plain),
    ALARMS.map(([, expression]) => plain(expression!.replaceAll('`', ''))),
  );
});
