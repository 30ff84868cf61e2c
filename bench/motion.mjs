// Bytes that motion compensation saves: between layers, against a base, in copies of layers, and what refinement costs.
//   node bench/motion.mjs [--parts layers,deltas,weights,copies,lossless,signs,progressive] [--fresh]
// Writes bench/results/motion.json and docs/BENCHMARKS.md. The models that are made for it, and what other methods gave, stay in
// .cache/motion; --fresh makes them anew. Some of the parts update that part of the results. Exit status 1 if a target is missed.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { flag, readOptions, some } from '../scripts/options.mjs';
import { ROOT, step } from '../scripts/tools.mjs';
import { buildCommand } from './artifacts.mjs';
import { MOTION, prepareTuned, variant } from './motion/models.mjs';
import { report, targets } from './motion/report.mjs';
import { DATA, prepareModel, prepareVenv, python } from './rate/models.mjs';
import { publish, reportTargets, writeResults } from './table.mjs';

const RESULTS = join(ROOT, 'bench/results/motion.json');
const BITS = ['--bits', '4'];
/** A base whose levels are the nearest ones: what a small delta changes in them is small too. */
const NEAREST = ['--quantizer', 'uniform'];
const ANY_ORDER = ['--unit-order', 'free'];
/** What prediction between layers is made of; the first is what the others are compared with. */
const LAYERS = [
  { name: 'key frames only', flags: ['--no-prediction'] },
  { name: 'predicted', flags: [] },
  { name: 'predicted, units in any order', flags: ANY_ORDER },
  { name: 'predicted, units in any order, without alignment', flags: [...ANY_ORDER, '--no-alignment'] },
  { name: 'predicted, units in any order, every frame a key frame', flags: [...ANY_ORDER, '--key-interval', '1'] },
  { name: 'key frames only, without an entropy model', flags: ['--no-prediction', '--no-entropy-model'] },
];
/** Models of which only the first two are measured. */
const OTHERS = ['ocr', 'docs-llama'];
const BASE_BITS = [5.3, 3.6, 2.3];
/** Of a base on the trellis. */
const TRELLIS_BASE_BITS = 3.6;
const TUNED = ['finetuned', 'finetuned-permuted', 'finetuned-5x', 'finetuned-20x'];
const PARTS = { layers, deltas, weights, copies, lossless, signs, progressive };

const { parts, fresh } = readOptions(import.meta.filename, { parts: some(Object.keys(PARTS)), fresh: flag });

prepareVenv();
const command = buildCommand();
const minilm = prepareModel('minilm');
prepareTuned({ fresh });
const results = existsSync(RESULTS) ? JSON.parse(readFileSync(RESULTS, 'utf8')) : {};
for (const part of parts) {
  results[part] = PARTS[part]();
  writeResults('motion', results);
}
publish('motion', report(results));
process.exitCode = reportTargets(targets(results)) ? 0 : 1;

function layers() {
  const measured = ['minilm', 'crepe', ...OTHERS].map((model) => {
    const source = prepareModel(model);
    if (!source) return undefined;
    const rows = OTHERS.includes(model) ? LAYERS.slice(0, 2) : LAYERS;
    return [model, atEqualError(source, BITS, rows)];
  });
  return Object.fromEntries(measured.filter(Boolean));
}

/** The fine-tune alone and against its base, at three steps. */
function deltas() {
  return BASE_BITS.flatMap((bits) => {
    const base = join(MOTION, 'base.mcwc');
    const flags = ['--bits', String(bits), ...NEAREST];
    encode(minilm, flags, base);
    return TUNED.map((name) => {
      const source = variant(name);
      const alone = evaluated(source, flags);
      const delta = evaluated(source, ['--base', base], ['--base', base]);
      return { variant: name, base: bits, alone, delta };
    });
  });
}

/** The fine-tune against a base on the trellis, whose own weights are at hand. */
function weights() {
  const base = join(MOTION, 'base.mcwc');
  const flags = ['--bits', String(TRELLIS_BASE_BITS)];
  encode(minilm, flags, base);
  return TUNED.map((name) => {
    const source = variant(name);
    const alone = evaluated(source, flags);
    const delta = evaluated(source, ['--base', base, '--base-weights', minilm], ['--base', base]);
    return { variant: name, base: TRELLIS_BASE_BITS, alone, delta };
  });
}

function copies() {
  const measured = ['grown', 'shared'].map((name) => {
    const [keys, predicted] = atEqualError(variant(name), BITS, LAYERS.slice(0, 2), evaluated);
    return [name, { keys, predicted }];
  });
  const once = encoded(minilm, ['--quality', String(measured[1][1].predicted.distortion)]);
  const upperWeights = (statSync(variant('shared')).size - statSync(minilm).size) / 4;
  const sharedBits = (8 * (measured[1][1].predicted.bytes - once.bytes)) / upperWeights;
  return { ...Object.fromEntries(measured), sharedBits };
}

function lossless() {
  const pairs = [
    ['float32', minilm, variant('finetuned')],
    ['bfloat16', variant('base-bf16'), variant('finetuned-bf16')],
  ];
  return pairs.map(([name, base, tuned]) => {
    const [xor, planes] = ['xor', 'xor-planes'].map((method) => peer(method, base, tuned));
    return { name, original: statSync(tuned).size, ours: losslessDelta(base, tuned), xor, planes };
  });
}

function losslessDelta(base, tuned) {
  const [baseArchive, delta] = ['base.mcwc', 'delta.mcwc'].map((name) => join(MOTION, name));
  encode(base, ['--lossless'], baseArchive);
  encode(tuned, ['--lossless', '--base', baseArchive], delta);
  const folder = decoded(delta, ['--base', baseArchive]);
  if (!readFileSync(tuned).equals(readFileSync(join(folder, basename(tuned))))) fail(`${tuned} does not come back`);
  rmSync(folder, { recursive: true });
  return { bytes: statSync(delta).size };
}

function signs() {
  return ['finetuned', 'finetuned-5x', 'finetuned-20x'].map((name) => {
    const { bytes, weights, distortion } = peer('signs', minilm, variant(name));
    const [untouched] = evaluate(variant(name), [minilm]);
    return { variant: name, bytes, bits: (8 * bytes) / weights, distortion, untouched };
  });
}

function progressive() {
  const refined = encoded(minilm, ['--progressive', '2.5,4']);
  return { refined, single: encoded(minilm, ['--quality', String(refined.distortion)]) };
}

/** What another method gives, once. */
function peer(method, base, tuned) {
  const path = join(MOTION, `${method}-${basename(tuned)}.json`);
  if (!existsSync(path)) {
    step(`${basename(tuned)}: ${method}`);
    writeFileSync(path, python('motion/peers.py', ['--cache', DATA, method, base, tuned]));
  }
  return JSON.parse(readFileSync(path, 'utf8'));
}

/** How far the outputs of files are from the original's. */
function evaluate(original, files) {
  const lines = python('motion/evaluate.py', ['--cache', DATA, original, ...files]).trim().split('\n');
  return lines.map((line) => JSON.parse(line));
}

function encode(source, flags, archive) {
  step(`${basename(source)} ${flags.filter((flag) => !flag.includes('/')).join(' ')}`);
  return JSON.parse(execFileSync(command, ['encode', source, '-o', archive, '--force', '--json', ...flags], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 2 ** 28 }));
}

function decoded(archive, flags) {
  const folder = mkdtempSync(join(MOTION, 'decoded-'));
  execFileSync(command, ['decode', archive, '-o', folder, '--json', ...flags], { stdio: ['ignore', 'ignore', 'inherit'] });
  return folder;
}

/** Bytes, bits and the mean of the tensors' relative squared errors. */
function encoded(source, flags) {
  const { archive_bytes, distortion, pass_bytes, tensors } = encode(source, flags, join(MOTION, 'measured.mcwc'));
  const weights = tensors.filter(({ lossy }) => lossy).reduce((sum, { weights }) => sum + weights, 0);
  return { bytes: archive_bytes, weights, distortion, passes: pass_bytes };
}

/** The first of the rows at a rate, the others at its error: what prediction saves would else show as smaller errors. */
function atEqualError(source, rate, [first, ...others], measured = encoded) {
  const reference = { name: first.name, ...measured(source, [...rate, ...first.flags]) };
  const rows = others.map(({ name, flags }) => ({ name, ...measured(source, ['--quality', String(reference.distortion), ...flags]) }));
  return [reference, ...rows];
}

/** The same, with bits/weight of the whole archive and how far the outputs are. */
function evaluated(source, flags, decodeFlags = []) {
  const measured = encoded(source, flags);
  const folder = decoded(join(MOTION, 'measured.mcwc'), decodeFlags);
  const [outputs] = evaluate(source, [join(folder, basename(source))]);
  rmSync(folder, { recursive: true });
  return { ...measured, bits: (8 * measured.bytes) / measured.weights, outputs };
}
