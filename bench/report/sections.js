// The parts of the results in the order of the report: text and tables, for Markdown and the page alike.
import { judge } from '../bars.js';
import { short, spread } from './numbers.js';
import { clientSection } from './sections/client.js';
import { daemonSection, latencySection } from './sections/daemon.js';
import { auditSection, rotationSection, threadsSection } from './sections/durable.js';
import { embeddedSection, keysSection } from './sections/embedded.js';
import { nodesSection } from './sections/nodes.js';
import { scaleSection } from './sections/scale.js';
import { workersSection } from './sections/workers.js';

const SECTIONS = [
  ['nodes', nodesSection],
  ['embedded', embeddedSection],
  ['keys', keysSection],
  ['daemon', daemonSection],
  ['workers', workersSection],
  ['latency', latencySection],
  ['client', clientSection],
  ['audit', auditSection],
  ['rotation', rotationSection],
  ['threads', threadsSection],
  ['scale', scaleSection],
];

/** One part is a command of its own: it takes as long as all others. */
export const commandOf = (part) => (part === 'scale' ? 'npm run bench:scale' : `npm run bench -- --only ${part}`);

/** `{title, part, text: [paragraph], tables: [{caption, head, rows}]}`; what was not measured is left out. */
export function sectionsOf(results) {
  const measured = ([name]) => results[name] !== undefined && (!Array.isArray(results[name]) || results[name].length > 0);
  return SECTIONS.filter(measured).map(([name, make]) => make(results[name]));
}

const VERDICTS = { true: 'yes', false: '**no**', undefined: 'not measured' };
/** What a bar asks for: `≥ 16.0x`. */
export const bound = ({ most, least, unit }) => (most === undefined ? `≥ ${short(least)}${unit}` : `≤ ${short(most)}${unit}`);

/** The bars against what was measured. */
export function barTable(results) {
  const rows = judge(results).map((bar) => [bar.what, bound(bar), spread(bar.measured, bar.unit), VERDICTS[bar.met], bar.part]);
  return { head: ['what', 'bar', 'measured (quartiles)', 'met', 'part'], rows };
}

/** `{met, missed, unmeasured}`: the bars by their verdict. */
export function verdicts(results) {
  const bars = judge(results);
  const of = (met) => bars.filter((bar) => bar.met === met);
  return { met: of(true), missed: of(false), unmeasured: of(undefined) };
}

function comparedWith(peers) {
  const named = Object.entries(peers).map(([name, version]) => `${name} ${version}`);
  return named.length > 0 ? ` Compared with ${named.join(', ')}.` : '';
}

/** Where and with what it was measured. */
export function machineLines({ machine, versions, at, quick, pinned }) {
  const { node, openssl, product, ...peers } = versions;
  return [
    `${at.slice(0, 10)}${quick ? ', a quick run: too short to judge by' : ''}. ${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.os}.`,
    `Node ${node} (OpenSSL ${openssl}), progressdb-kms ${product}.${comparedWith(peers)}`,
    pinned
      ? 'Servers ran on one core, what drove them on the other.'
      : 'Servers and what drove them were not pinned to cores: the machine has one, or no taskset.',
  ];
}
