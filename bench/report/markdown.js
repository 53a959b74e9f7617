// BENCHMARKS.md out of the results: ratios against the bars first, absolute figures second.
import { headlinesOf } from './headlines.js';
import { amount } from './numbers.js';
import { barTable, bound, commandOf, machineLines, sectionsOf, verdicts } from './sections.js';

const row = (cells) => `| ${cells.join(' | ')} |`;
const table = ({ head, rows }) => [row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n');
export const captioned = (one) => (one.caption ? `${one.caption}:\n\n${table(one)}` : table(one));

/** Breaks paragraphs where the house breaks them, so that a changed figure changes few lines. */
export function wrapped(text, width = 120) {
  const lines = [''];
  for (const word of text.split(' ')) {
    if (lines.at(-1).length + word.length > width) lines.push(word);
    else lines[lines.length - 1] += `${lines.at(-1) === '' ? '' : ' '}${word}`;
  }
  return lines.join('\n');
}

export const image = (folder, { name, title, reading }) => `![${title}](${folder}/${name}.png)\n\n${wrapped(reading)}`;

function sectionText({ title, part, text, tables }) {
  return [`## ${title}`, ...text.map((one) => wrapped(one)), ...tables.map(captioned), `\`${commandOf(part)}\``].join('\n\n');
}

function summary(results) {
  const { met, missed, unmeasured } = verdicts(results);
  const total = met.length + missed.length;
  const lines = [`${met.length} of the ${total} bars that were measured are met.`];
  if (missed.length > 0)
    lines.push(
      `Missed: ${missed.map((bar) => `${bar.what} (${amount(bar.measured.ratio, bar.unit)}, bar ${bound(bar)})`).join('; ')}.`,
    );
  if (unmeasured.length > 0) lines.push(`${unmeasured.length} were not measured.`);
  return wrapped(lines.join(' '));
}

/** The whole document. `plots` are those that lie in `folder` as PNG; `notes` is text kept by hand in bench/notes.md. */
export function markdown(results, { plots = [], folder, notes = '' }) {
  const shown = plots.filter(({ name }) => name === 'ratios' || name === 'throughput');
  const bullets = headlinesOf(results).map(({ value, than, what }) => `- **${value}** ${than}: ${what}`);
  const parts = [
    '# Benchmarks',
    wrapped(
      'Written by `npm run bench`, which reproduces it. Ratios are medians over alternated blocks of one run, each taken between neighbouring blocks, so they wander little from run to run, and differ with the OpenSSL of the node; absolute figures wander by tens of percent.',
    ),
    machineLines(results).join('\n'),
    bullets.join('\n'),
    plots.length > 0 ? `All plots are on [one page](${folder}/index.html).` : '',
    ...shown.map((plot) => image(folder, plot)),
    '## Ratios and their bars',
    `${summary(results)}\n\nA line alone is measured anew by \`${commandOf('PART')}\`, and \`progressdb-kms bench\` measures an installed copy.
\`npm run bench -- --report bench/build/results.json\` makes this page and the plots again from the results of the last run.`,
    table(barTable(results)),
    ...sectionsOf(results).map(sectionText),
    notes.trim() === '' ? '' : `## Notes\n\n${notes.trim()}`,
  ];
  return `${parts.filter((part) => part !== '').join('\n\n')}\n`;
}
