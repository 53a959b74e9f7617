// All plots, in the order of the page. One that lacks its part of the results is left out.
import { daemonSizes } from './plots/daemon-sizes.js';
import { fleet } from './plots/fleet.js';
import { keys } from './plots/keys.js';
import { latency } from './plots/latency.js';
import { nodes } from './plots/nodes.js';
import { ratios } from './plots/ratios.js';
import { scaleCosts, scaleRates } from './plots/scale.js';
import { sizes } from './plots/sizes.js';
import { throughput } from './plots/throughput.js';

const PLOTS = [ratios, throughput, latency, sizes, daemonSizes, keys, nodes, scaleRates, scaleCosts, fleet];
const WIDE = { width: 850, narrow: false };
const NARROW = { width: 350, narrow: true };

/**
 * `svgOf` draws a specification: bench/report/draw.js, whose packages only the benchmark installs. Gives
 * `{name, title, subtitle, reading, file, wide, narrow}`, the last three SVG: one for a file, with its title, two for the page.
 */
export async function drawPlots(results, svgOf) {
  const drawn = [];
  for (const plot of PLOTS) {
    const spec = plot.spec(results, WIDE);
    if (spec === undefined) continue;
    const { name, title, subtitle } = plot;
    const padding = { left: 24, right: 24, top: 22, bottom: 20 };
    drawn.push({
      name,
      title,
      subtitle,
      reading: plot.reading(results),
      file: await svgOf({ ...spec, padding, title: { text: title, subtitle } }),
      wide: await svgOf({ ...spec, padding: 4 }),
      narrow: await svgOf({ ...plot.spec(results, NARROW), padding: 2 }),
    });
  }
  return drawn;
}
