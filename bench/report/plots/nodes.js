import { PALETTE } from '../contenders.js';
import { PALE } from '../ink.js';
import { times } from '../numbers.js';
import { barChart } from './bars.js';

const SIZE = 1024;
/** The older the version, the paler. */
const SHADES = [PALE, PALETTE.oursToo, PALETTE.ours];

const PANELS = [
  [
    'Embedded, encryptInto, one thread',
    ({ embedded }) => 1e9 / (embedded.find(({ size }) => size === SIZE)?.encryptIntoNs ?? Number.NaN),
  ],
  ['Daemon, 1 x 256 in flight', ({ at256 }) => at256?.perSecond],
  ['Daemon, 8 x 64 in flight', ({ at8x64 }) => at8x64?.perSecond],
];

function groupsOf(nodes) {
  return PANELS.map(([heading, measuredBy]) => ({
    heading,
    rows: nodes
      .map((one, i) => ({
        name: `Node ${one.node.replace(/^v/, '')}, OpenSSL ${one.openssl}`,
        value: measuredBy(one),
        colour: SHADES.at(i - nodes.length),
      }))
      .filter(({ value }) => Number.isFinite(value))
      .map((row) => ({ ...row, text: `${(row.value / 1e6).toFixed(2)} M/s` })),
  })).filter(({ rows }) => rows.length > 0);
}

/** The same product on each version of Node. */
export const nodes = {
  name: 'nodes',
  title: 'The same product on different versions of Node',
  subtitle: 'messages of 1 KiB encrypted per second',
  reading({ nodes: versions }) {
    const served = versions.filter(({ at256 }) => at256);
    const [first, last] = [served[0], served.at(-1)];
    if (served.length < 2) return `Measured on Node ${versions.map(({ node }) => node).join(', ')}.`;
    return `Node ${last.node} (OpenSSL ${last.openssl}) serves ${times(last.at256.perSecond / first.at256.perSecond)} the rate of ${first.node} (OpenSSL ${first.openssl}) at 256 in flight, with nothing changed but the node that runs it.`;
  },
  spec({ nodes: versions }, { width }) {
    const groups = versions ? groupsOf(versions) : [];
    if (groups.length === 0) return undefined;
    const most = Math.max(...groups.flatMap(({ rows }) => rows.map(({ value }) => value)));
    const step = most > 4e6 ? 2e6 : most > 2e6 ? 1e6 : most > 8e5 ? 5e5 : 1e5;
    const ticks = Array.from({ length: Math.ceil(most / step) + 1 }, (_, i) => i * step);
    const x = { domain: [0, most * (width < 500 ? 1.3 : 1.14)], ticks, label: 'count', from: 0 };
    return barChart({ groups, x, width: width - 20 });
  },
};
