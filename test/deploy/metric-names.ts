import { textOf } from '../house/sources.js';
import { type Data, documentsOf } from './files.js';

/** The names of the metrics in an expression of Prometheus, as they stand there: `…_bucket` for a histogram. */
export function metricsOf(expression: string): string[] {
  const bare = expression.replace(/"(\\.|[^"\\])*"/g, '""');
  return [...bare.matchAll(/\b(?:progressdb_kms|process)_\w+|\bup\b/g)].map(([name]) => name);
}

/** Every expression of the dashboard's panels and variables, under the panel's title. */
export function dashboardExpressions(): Map<string, string[]> {
  const { panels, templating } = JSON.parse(textOf('deploy/grafana/dashboard.json')) as Data;
  const queries = panels.map(({ title, targets = [] }: Data) => [title, targets.map(({ expr }: Data) => expr)]);
  const variables = templating.list.filter(({ definition }: Data) => definition !== undefined);
  return new Map([...queries, ['(variables)', variables.map(({ definition }: Data) => definition)]]);
}

/** The expression of each alert by its name. */
export function alertExpressions(): Map<string, string> {
  const [{ groups }] = documentsOf('deploy/prometheus/alerts.yml') as [Data];
  return new Map(groups.flatMap(({ rules }: Data) => rules.map(({ alert, expr }: Data) => [alert, expr])));
}

/** The names of all metrics that the dashboard and the alerts go by. */
export function metricsInUse(): string[] {
  const expressions = [...dashboardExpressions().values(), [...alertExpressions().values()]].flat();
  return [...new Set(expressions.flatMap(metricsOf))].sort();
}
