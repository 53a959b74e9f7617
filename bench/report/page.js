// One page without anything beside it: no script, no font, no image that is loaded from elsewhere.
import { readFileSync } from 'node:fs';
import { PALETTE } from './contenders.js';
import { headlinesOf } from './headlines.js';
import { GRID, INK, PALE, PAPER, SOFT } from './ink.js';
import { amount } from './numbers.js';
import { barTable, bound, commandOf, machineLines, sectionsOf, verdicts } from './sections.js';

const CSS = readFileSync(new URL('page.css', import.meta.url), 'utf8');

const ENTITIES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
const escaped = (text) => String(text).replace(/[&<>"]/g, (one) => ENTITIES[one]);
/** Text with the two marks of Markdown that the sections use. */
const html = (text) =>
  escaped(text)
    .replace(/`([^`]+)`/g, '<code>$1</code>')
    .replace(/\*\*([^*]+)\*\*/g, '<b>$1</b>');

/** The plots' colours follow the page's, light or dark: a rule outweighs an attribute. */
function inked() {
  const { ours, oursToo, floor, peer, peerToo, peers } = PALETTE;
  const named = {
    ink: INK,
    soft: SOFT,
    grid: GRID,
    paper: PAPER,
    pale: PALE,
    ours,
    'ours-too': oursToo,
    floor,
    peer,
    'peer-too': peerToo,
    peers,
  };
  const rules = Object.entries(named).flatMap(([name, colour]) =>
    ['fill', 'stroke'].map((attribute) => `figure svg [${attribute}="${colour}"]{${attribute}:var(--${name})}`),
  );
  return rules.join('\n');
}

function figures(results) {
  const items = headlinesOf(results).map(
    ({ value, than, what }) => `<li><b>${html(value)}</b><strong>${html(than)}</strong><span>${html(what)}</span></li>`,
  );
  return items.length === 0 ? '' : `<ul class="figures">${items.join('\n')}</ul>`;
}

function verdict(results) {
  const { met, missed, unmeasured } = verdicts(results);
  const rest = unmeasured.length > 0 ? ` ${unmeasured.length} more were not measured.` : '';
  const told = (bar) => `<li>${html(`${bar.what}: ${amount(bar.measured.ratio, bar.unit)}, bar ${bound(bar)}`)}</li>`;
  const list = missed.length > 0 ? ` Missed:<ul>${missed.map(told).join('')}</ul>` : '';
  const text = `${met.length} of ${met.length + missed.length} bars set beforehand are met.${rest}${list}`;
  return `<div class="verdict${missed.length > 0 ? ' missed' : ''}">${text} <a href="#bars">All bars</a></div>`;
}

function plot({ name, title, subtitle, reading, wide, narrow }) {
  const drawn = (kind, svg) =>
    svg.replace('<svg', `<svg role="img" aria-label="${escaped(title)}" class="${kind}"`).replace('class="marks" ', '');
  return `<section id="${name}">
<h2>${html(title)}</h2>
<p>${html(reading)}</p>
<figure>${drawn('wide', wide)}${drawn('narrow', narrow)}<figcaption>${html(subtitle)}</figcaption></figure>
</section>`;
}

const CLASSES = { '**no**': 'no', 'not measured': 'unknown' };
const cell = (text) => `<td${CLASSES[text] ? ` class="${CLASSES[text]}"` : ''}>${html(text)}</td>`;

function table({ caption, head, rows }, kind = '') {
  const top = `<tr>${head.map((text) => `<th scope="col">${html(text)}</th>`).join('')}</tr>`;
  const body = rows.map((cells) => `<tr>${cells.map(cell).join('')}</tr>`).join('\n');
  return `<div class="scroll" tabindex="0"><table class="${kind}">${caption ? `<caption>${html(caption)}</caption>` : ''}
<thead>${top}</thead>
<tbody>${body}</tbody></table></div>`;
}

function section({ title, part, text, tables }) {
  const paragraphs = text.map((one) => `<p class="soft">${html(one)}</p>`);
  const again = `<p class="soft">Measured anew by <code>${commandOf(part)}</code></p>`;
  return [`<h3>${html(title)}</h3>`, ...paragraphs, ...tables.map((one) => table(one)), again].join('\n');
}

/** The figures at the top mean nothing without it. */
const measuredOn = ({ machine, versions, at }) =>
  html(`Measured ${at.slice(0, 10)}: ${machine.cpu}, ${machine.cores} cores, Node ${versions.node}`);

/** `plots`: what `drawPlots` gives. */
export function page(results, plots) {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>progressdb-kms: benchmarks</title>
<style>
${CSS}${inked()}
</style>
</head>
<body>
<main>
<h1>How fast is progressdb-kms?</h1>
<p class="lead">A local key-management service for Node: it keeps the keys, in your process or in a daemon on a Unix socket, and encrypts and decrypts messages with them (AES-256-GCM).</p>
${figures(results)}
<p class="soft">${measuredOn(results)} (<a href="#machine">more</a>). Ratios are medians over alternated blocks of one run and wander little from run to run; absolute figures wander by tens of percent.</p>
${verdict(results)}
${plots.map(plot).join('\n')}
<section id="bars">
<h2>Bars</h2>
<p>What was to be reached, set beforehand, and what was measured. A line alone is measured anew by <code>${commandOf('PART')}</code>.</p>
${table(barTable(results), 'bars')}
</section>
<section id="tables">
<h2>All figures</h2>
${sectionsOf(results).map(section).join('\n')}
</section>
<section id="machine">
<h2>Machine, versions, commands</h2>
${machineLines(results)
  .map((line) => `<p>${html(line)}</p>`)
  .join('\n')}
<p><code>npm run bench</code> measures all of it and writes this page; <code>progressdb-kms bench</code> measures an installed copy.</p>
</section>
</main>
</body>
</html>
`;
}
