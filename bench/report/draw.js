// Plots out of their specifications, without a browser: SVG by vega, PNG by resvg.
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { Resvg } from '@resvg/resvg-js';
import { parse, textMetrics, View } from 'vega';
import { compile } from 'vega-lite';
import { CONFIG, FONT } from './plots/chart.js';

const FONTS = join(dirname(createRequire(import.meta.url).resolve('dejavu-fonts-ttf/package.json')), 'ttf');
const PIXELS = 2;

/** Without a canvas vega takes each letter for 0.8 of its height, which leaves wide empty margins. */
const LETTER = { normal: 0.62, bold: 0.72 };
textMetrics.width = ({ fontSize = 11, fontWeight }, text) =>
  String(text ?? '').length * fontSize * (LETTER[fontWeight] ?? LETTER.normal);

export async function svgOf(spec) {
  const compiled = compile({ $schema: 'https://vega.github.io/schema/vega-lite/v6.json', config: CONFIG, ...spec }).spec;
  const view = new View(parse(compiled), { renderer: 'none' });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}

export function pngOf(svg) {
  const font = {
    loadSystemFonts: false,
    fontFiles: ['DejaVuSans.ttf', 'DejaVuSans-Bold.ttf'].map((name) => join(FONTS, name)),
    defaultFontFamily: FONT,
  };
  return new Resvg(svg, { font, fitTo: { mode: 'zoom', value: PIXELS } }).render().asPng();
}
