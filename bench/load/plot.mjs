// Results of bench/load.mjs -> an SVG: for each speed of the network a bar for each variant, up to its first inference.
import { round } from '../stats.mjs';
import { THROTTLED, labelOf, weightsIn } from './report.mjs';

const BAR = 16;
const GAP = 5;
const LABELS = 300;
const BARS = 420;
const VALUES = 110;
const TITLE = 34;
const COLORS = { ours: ['#0b5fa5', '#9cc7e8'], others: ['#8c4a10', '#e5c19a'] };

/** The model that bars are drawn of. */
const MODEL = 'minilm';

export function plot({ rows }) {
  const shown = rows.filter(({ model, encoding }) => model === MODEL && encoding !== 'zstd');
  const panels = THROTTLED.filter((speed) => shown.every(({ by }) => by[speed]));
  const panelHeight = TITLE + shown.length * (BAR + GAP);
  const [width, height] = [LABELS + BARS + VALUES, panels.length * panelHeight + GAP];
  const body = panels.map((speed, index) => `<g transform="translate(0 ${index * panelHeight})">${panel(shown, speed)}</g>`);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    ...body,
    '</svg>\n',
  ].join('\n');
}

/** Dark until the weights are there, without the runtime; light until the first inference. */
function panel(rows, speed) {
  const longest = Math.max(...rows.map(({ by }) => by[speed].inference));
  const bars = rows.map(({ model, name, encoding, by }, index) => {
    const [weights, { inference }] = [weightsIn(by, speed), by[speed]];
    const [dark, light] = name.startsWith('ours') ? COLORS.ours : COLORS.others;
    const y = TITLE + index * (BAR + GAP);
    const [until, total] = [weights, inference].map((milliseconds) => round((BARS * milliseconds) / longest, 1));
    return [
      text(LABELS - 8, y + 12, labelOf({ model, name, encoding }), 'text-anchor="end"'),
      `<rect x="${LABELS}" y="${y}" width="${total}" height="${BAR}" fill="${light}"/>`,
      `<rect x="${LABELS}" y="${y}" width="${until}" height="${BAR}" fill="${dark}"/>`,
      text(LABELS + Number(total) + 6, y + 12, `${round(weights / 1000, 2)} / ${round(inference / 1000, 2)} s`),
    ].join('');
  });
  return [text(LABELS, TITLE - 10, `${speed} Mbit/s: weights ready / first inference`, 'font-weight="bold"'), ...bars].join('\n');
}

function text(x, y, content, attributes = '') {
  return `<text x="${x}" y="${y}" ${attributes}>${content}</text>`;
}
