// What the audit log costs the daemon: the same load on daemons that differ in nothing but how they write data operations.
import { runLoad } from './processes.js';
import { AAD_BYTES, PLAINTEXT_BYTES, startDaemon, withServers } from './servers.js';
import { median, pairedRatio } from './statistics.js';

const MODES = {
  off: ['--audit-data-operations', 'off'],
  grouped: ['--audit-data-operations', 'grouped'],
  each: ['--audit-data-operations', 'each'],
  'each, strict': ['--audit-data-operations', 'each', '--audit-strict'],
};
const [CONNECTIONS, IN_FLIGHT] = [1, 256];

const PLANS = {
  full: { turns: 7, warm: 0.3, seconds: 1.2 },
  quick: { turns: 3, warm: 0.2, seconds: 0.6 },
};

function load({ programs }, { socket, keyId, child }, { warm, seconds }) {
  return runLoad([programs.load, socket, keyId, PLAINTEXT_BYTES, AAD_BYTES, CONNECTIONS, IN_FLIGHT, warm, seconds, child.pid]);
}

export async function measureAudit(run) {
  if (!run.product) return undefined;
  const plan = run.quick ? PLANS.quick : PLANS.full;
  const names = Object.keys(MODES);
  const starts = Object.fromEntries(names.map((name) => [name, () => startDaemon(run.scratch, MODES[name])]));
  const rates = Object.fromEntries(names.map((name) => [name, []]));
  const cpu = Object.fromEntries(names.map((name) => [name, []]));
  await withServers(starts, async (servers) => {
    for (let turn = 0; turn < plan.turns; turn++) {
      for (const name of names) {
        const { perSecond, serverCpuNs } = await load(run, servers[name], plan);
        rates[name].push(perSecond);
        cpu[name].push(serverCpuNs);
      }
      run.say(`audit: turn ${turn + 1} of ${plan.turns}`);
    }
  });
  const modes = names.map((name) => ({
    name,
    perSecond: median(rates[name]),
    serverCpuNs: median(cpu[name]),
    ofOff: pairedRatio(rates[name], rates.off),
  }));
  return { turns: plan.turns, inFlight: `${CONNECTIONS} x ${IN_FLIGHT}`, modes };
}
