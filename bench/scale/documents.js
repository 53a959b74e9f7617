// Where the results of `npm run bench:scale` lie, and what is written of them.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BUILD } from '../programs.js';
import { scalingDocument } from '../report/scaling/document.js';
import { PLOT_FOLDER, writePlots } from '../report.js';

export const SCALE_RESULTS = join(BUILD, 'scale.json');
const OTHER_RESULTS = join(BUILD, 'results.json');

const read = (path) => (existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : undefined);

/** Of the last run of `npm run bench`; undefined where there was none. */
export const lastResults = () => read(OTHER_RESULTS);

/** The results of a run with those of the last `npm run bench:scale`, unless it has some of its own. */
export function withScale(results) {
  const scale = results.scale ?? read(SCALE_RESULTS);
  return scale === undefined ? results : { ...results, scale };
}

export const scalingText = (scale) => scalingDocument(scale, []);

/** Writes docs/SCALING.md and its plots under `root`, and gives back the first. */
export async function writeScaling(scale, root) {
  const folder = join(root, PLOT_FOLDER);
  mkdirSync(folder, { recursive: true });
  const text = scalingDocument(scale, await writePlots({ scale }, folder));
  writeFileSync(join(root, 'docs/SCALING.md'), text);
  return text;
}
