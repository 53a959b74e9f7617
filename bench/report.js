// Everything that is made of the results, written where readers look for it.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { judge } from './bars.js';
import { BENCH } from './programs.js';
import { markdown } from './report/markdown.js';
import { page } from './report/page.js';

export const PLOT_FOLDER = 'docs/benchmarks';

function notes() {
  const path = join(BENCH, 'notes.md');
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
}

/** BENCHMARKS.md alone, for a run that is not kept. */
export function reportText(results) {
  return markdown(results, { folder: PLOT_FOLDER, notes: notes() });
}

/** Draws what the results have a plot for, as SVG and PNG, and gives what each says. */
export async function writePlots(results, folder) {
  // The drawing packages take a second to load, which a run of one part does not need.
  const { drawPlots } = await import('./report/plots.js');
  const { pngOf, svgOf } = await import('./report/draw.js');
  const plots = await drawPlots(results, svgOf);
  for (const { name, file } of plots) {
    writeFileSync(join(folder, `${name}.svg`), file);
    writeFileSync(join(folder, `${name}.png`), pngOf(file));
  }
  return plots;
}

/** Writes BENCHMARKS.md and docs/benchmarks under `root`, and gives back the first. */
export async function writeReport(results, root) {
  const judged = { ...results, bars: judge(results) };
  const folder = join(root, PLOT_FOLDER);
  // A plot whose part is missing now must not stay behind from the run before.
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const plots = await writePlots(judged, folder);
  writeFileSync(join(folder, 'index.html'), page(judged, plots));
  const text = markdown(judged, { plots, folder: PLOT_FOLDER, notes: notes() });
  writeFileSync(join(root, 'BENCHMARKS.md'), text);
  return text;
}
