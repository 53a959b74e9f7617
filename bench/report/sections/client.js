import { count, spread } from '../numbers.js';

export function clientSection({ inFlight, turns, kms, http, kmsOverHttp }) {
  const line = (name, figures) => [name, figures ? count(figures.perSecond) : '–', figures ? count(figures.clientCpuNs) : '–'];
  return {
    title: `Node client: ${inFlight} encrypts in flight, a promise each, end to end`,
    part: 'client',
    text: [
      `\`connectKms\` against our daemon, and a node:http keep-alive client (an agent of ${inFlight} sockets, JSON and base64) against the node:http server, in turn. ${turns} turns. Ours over the other: ${spread(kmsOverHttp)}.`,
    ],
    tables: [{ head: ['client', 'operations /s', 'client CPU ns'], rows: [line('connectKms', kms), line('node:http', http)] }],
  };
}
