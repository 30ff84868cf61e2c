// Samples of bench/load.mjs -> medians, a table for docs/BENCHMARKS.md, and whether targets are met.
import { median, round } from '../stats.mjs';
import { markdownTable } from '../table.mjs';
import { addressOf } from './visits.mjs';

const LABELS = {
  'minilm fp32': 'MiniLM, fp32',
  'minilm fp16': 'MiniLM, fp16',
  'minilm int8': 'MiniLM, int8 for each row',
  'minilm dynamic': 'MiniLM, int8, activations too',
  'minilm 4bit': 'MiniLM, 4-bit blocks',
  'minilm ours-int8': 'MiniLM, ours, as good as int8 for each row',
  'minilm ours-int8-bytes': 'the same, decoded whole',
  'minilm ours-4bit': 'MiniLM, ours, as good as 4-bit blocks',
  'minilm ours-4bit-bytes': 'the same, decoded whole',
  'tuned int8-delta': 'its fine-tune, int8, by the base as dictionary',
  'tuned ours-delta': 'its fine-tune, ours, a delta',
  'ocr fp32': 'PP-OCRv4, fp32',
  'ocr int8': 'PP-OCRv4, int8 for each channel',
  'ocr ours-int8': 'PP-OCRv4, ours, as good as int8',
  'ocr ours-int8-bytes': 'the same, decoded whole',
};
const ENCODINGS = { br: 'brotli', zstd: 'zstd', dcz: 'dcz' };
const PICTURE = '![Time until weights are there, and until the first inference, at each speed of the network](../bench/results/load.svg)';
/** Of a condition, visits to a page that starts no runtime. */
const WEIGHTS_ONLY = ' without the runtime';
export const THROTTLED = ['10', '50', '300'];
/** Ours, the peer of its quality, and how many times sooner its weights have to be there. */
const SOONER = [
  ['ours-int8', 'int8', 1.4],
  ['ours-4bit', '4bit', 1.5],
];
const DECODING = { speed: '300', most: 0.1 };
/** From the cache, in times of what fp16 takes. */
const CACHED = { peer: 'fp16', most: 1.3 };
/** Squared error of an output, relative to the original's, that only a wrong one has. */
const WRONG = 0.3;

/** Of each variant, what it is, and by condition, with the runtime and without, the medians of its times in milliseconds and of its peak memory. */
export function summarize(variants, samples) {
  const timesOf = (address) => {
    const own = Object.entries(samples).filter(([key]) => key.startsWith(`${address} `));
    return Object.fromEntries(own.map(([key, list]) => [key.slice(address.length + 1), medians(list)]));
  };
  const rows = variants.map((variant) => {
    const { model, name, encoding, bytes, distortion } = variant;
    return { model, name, encoding, bytes, distortion, by: timesOf(addressOf(variant)) };
  });
  return { runtime: timesOf('runtime'), rows };
}

function medians(list) {
  const names = Object.keys(list[0].marks);
  const times = Object.fromEntries(names.map((name) => [name, median(list.map(({ marks }) => marks[name]))]));
  return { ...times, peakBytes: median(list.map(({ peakBytes }) => peakBytes)), samples: list.map(({ marks }) => marks) };
}

/** Variants with an output that is another than that of the first of their model, and how far the farthest is. */
export function wrongOutputs(variants, samples) {
  const inferred = (variant) => Object.entries(samples).filter(([key]) => key.startsWith(`${addressOf(variant)} `) && !key.endsWith(WEIGHTS_ONLY));
  const outputs = (variant) => inferred(variant).flatMap(([, list]) => list.map(({ output }) => output));
  const first = (model) => outputs(variants.find((variant) => variant.model === model))[0];
  const farthest = (variant) => Math.max(...outputs(variant).map((output) => error(output, first(variant.model))));
  // No number is wrong, too.
  return variants.filter((variant) => outputs(variant).length > 0 && !(farthest(variant) <= WRONG)).map((variant) => `${addressOf(variant)} ${round(farthest(variant), 2)}`);
}

function error(output, expected) {
  const energy = (values) => values.reduce((sum, value) => sum + value * value, 0);
  return energy(output.map((value, index) => value - expected[index])) / energy(expected);
}

export function report({ runtime, rows }) {
  const conditions = [...THROTTLED, 'unthrottled', 'cached'].filter((name) => rows.some(({ by }) => by[name]));
  const header = ['', 'MB', 'distortion', ...conditions.map(conditionLabel), 'peak MB'];
  const cells = (by, mark) => conditions.map((name) => (by[name] ? [weightsIn(by, name), by[name][mark]].filter(Boolean).map(seconds).join(' / ') : ''));
  const table = rows.map(({ model, name, encoding, bytes, distortion, by }) => {
    const label = labelOf({ model, name, encoding });
    return [name.startsWith('ours') ? `**${label}**` : label, round(bytes / 1e6, 2), distortion.toExponential(1), ...cells(by, 'inference'), peak(by)];
  });
  const runtimeOnly = ['onnxruntime-web alone, not in the cache', '', '', ...cells(runtime, 'runtime'), peak(runtime)];
  return [PICTURE, markdownTable(header, [...table, runtimeOnly]), sooner(rows, conditions)].join('\n\n');
}

/** How many times sooner ours are than their peers: weights, weights beside the runtime's start (ours decoded whole), and first inferences. */
function sooner(rows, conditions) {
  const ratio = (peer, own) => (peer && own ? `${round(peer / own, 2)} ×` : '');
  const lines = SOONER.flatMap(([ours, peer]) => {
    const line = (label, own, value) => {
      const [peers, owns] = [peer, own].map((name) => rowOf(rows, name)?.by ?? {});
      return [`${LABELS[`minilm ${peer}`]}, brotli: ${label}`, ...conditions.map((name) => ratio(value(peers, name), value(owns, name)))];
    };
    return [
      line('weights', ours, weightsIn),
      line("weights beside the runtime's start", `${ours}-bytes`, (by, name) => by[name]?.weights),
      line('first inference', ours, (by, name) => by[name]?.inference),
    ];
  });
  return markdownTable(['In times of ours', ...conditions.map(conditionLabel)], lines);
}

/** The name under which visits in a condition are kept. */
export function conditionOf(name, weightsOnly) {
  return weightsOnly ? name + WEIGHTS_ONLY : name;
}

/** When weights were there on a page that starts no runtime, in milliseconds. */
export function weightsIn(by, name) {
  return by[conditionOf(name, true)]?.weights;
}

function conditionLabel(name) {
  return THROTTLED.includes(name) ? `${name} Mbit/s` : name;
}

function rowOf(rows, name) {
  return rows.find((row) => row.model === 'minilm' && row.name === name && row.encoding !== 'zstd');
}

export function labelOf({ model, name, encoding }) {
  return [LABELS[`${model} ${name}`], ENCODINGS[encoding]].filter(Boolean).join(', ');
}

function seconds(milliseconds) {
  return round(milliseconds / 1000, milliseconds < 9995 ? 2 : 1);
}

function peak(by) {
  const { peakBytes } = by.unthrottled ?? Object.values(by)[0] ?? {};
  return peakBytes ? round(peakBytes / 1e6, 0) : '';
}

export function targets({ rows }) {
  const timesOf = (name) => rowOf(rows, name)?.by ?? {};
  const list = [];
  const atLeast = (name, value, least) => list.push({ name, value: `${round(value, 2)} of ${round(least, 2)}`, met: value >= least });
  const atMost = (name, value, most) => list.push({ name, value: `${round(value, 2)} of ${round(most, 2)}`, met: value <= most });
  for (const [ours, peer, times] of SOONER) {
    const [own, other] = [timesOf(ours), timesOf(peer)];
    for (const speed of THROTTLED.filter((speed) => own[speed] && other[speed])) {
      atLeast(`${ours}, ${speed} Mbit/s: weights sooner than ${peer} with brotli, times`, weightsIn(other, speed) / weightsIn(own, speed), times);
      atLeast(`${ours}, ${speed} Mbit/s: first inference sooner than ${peer} with brotli, times`, other[speed].inference / own[speed].inference, 1);
    }
    const fast = own[conditionOf(DECODING.speed, true)];
    if (fast) atMost(`${ours}, ${DECODING.speed} Mbit/s: decoding adds to the download`, fast.weights / fast.downloaded - 1, DECODING.most);
    const [cached, known] = [own, timesOf(CACHED.peer)].map((by) => weightsIn(by, 'cached'));
    if (cached && known) atMost(`${ours}, cached: weights, in times of cached ${CACHED.peer}`, cached / known, CACHED.most);
  }
  return list;
}
