import { awsOf, PALETTE, peersOf } from '../contenders.js';
import { times } from '../numbers.js';
import { barChart } from './bars.js';
import { decades } from './chart.js';

const SIZE = 1024;
const OURS = 'encryptSync';

const row = (name, value, colour = PALETTE.peer) => ({ name, value, text: times(value), colour });

function embeddedRows({ sizes }) {
  const at = sizes.find(({ size, variants }) => size === SIZE && variants[OURS]);
  if (!at) return [];
  const ours = at.variants[OURS];
  const rows = peersOf(at.variants).map((name) => {
    const { ns, algorithm } = at.variants[name];
    const marked = algorithm.startsWith('AES-256-GCM') ? name : `${name} (${algorithm})`;
    return row(marked, name === 'node:crypto' ? ours.fasterThanNodeCrypto.ratio : ns / ours.ns);
  });
  return [...rows, row('C++ loop on OpenSSL, the floor', 1 / ours.overFloor.ratio, PALETTE.floor)].sort(
    (a, b) => a.value - b.value,
  );
}

function daemonRows({ shapes }) {
  const at = shapes.find(({ shape }) => shape === '1 x 256');
  if (!at) return [];
  return [
    at.daemonOverEcho && row('C echo server, which encrypts nothing', at.daemonOverEcho.ratio, PALETTE.floor),
    at.daemonOverHttp && row('node:http + JSON', at.daemonOverHttp.ratio),
    at.daemonOverFastify && row('Fastify + JSON', at.daemonOverFastify.ratio),
  ].filter(Boolean);
}

function groupsOf({ embedded, daemon, client }) {
  return [
    { heading: 'In the same process: encrypting 1 KiB', rows: embedded ? embeddedRows(embedded) : [] },
    { heading: 'A server: 256 requests in flight', rows: daemon ? daemonRows(daemon) : [] },
    {
      heading: 'A Node client: 256 requests in flight',
      rows: client?.kmsOverHttp ? [row('node:http keep-alive client', client.kmsOverHttp.ratio)] : [],
    },
  ].filter(({ rows }) => rows.length > 0);
}

/** How many times the speed of each baseline the product has. */
export const ratios = {
  name: 'ratios',
  title: 'How many times faster than each baseline',
  subtitle: 'log scale; right of the line progressdb-kms is faster, left of it the baseline is',
  reading({ embedded, daemon }) {
    const at = embedded?.sizes.find(({ size }) => size === SIZE)?.variants;
    const aws = at?.[OURS] && awsOf(at);
    const parts = [];
    if (at?.[OURS])
      parts.push(`a message of 1 KiB is encrypted at ${times(at[OURS].fasterThanNodeCrypto.ratio)} the speed of node:crypto`);
    if (aws) parts.push(`at ${times(aws.ns / at[OURS].ns)} that of the AWS Encryption SDK`);
    const http = daemon?.shapes.find(({ shape }) => shape === '1 x 256')?.daemonOverHttp;
    if (http) parts.push(`the daemon answers ${times(http.ratio)} as many requests as node:http with JSON`);
    const text = `${[...parts, 'grey rows leave out work that the product does'].join('; ')}.`;
    return text[0].toUpperCase() + text.slice(1);
  },
  spec(results, { width }) {
    const groups = groupsOf(results);
    if (groups.length === 0) return undefined;
    const values = groups.flatMap(({ rows }) => rows.map(({ value }) => value));
    const { domain, ticks } = decades([...values, 1], 1.1);
    const air = width < 500 ? 2.6 : 1.5;
    const x = { domain: [Math.min(domain[0], 0.5), domain[1] * air], ticks, label: 'times', log: true, from: 1 };
    return barChart({ groups, x, width: width - 20, at: 1 });
  },
};
