// Bytes and output distortion of models, compressed by us and by others.
//   node bench/rate.mjs [--models minilm,ocr,crepe,docs-llama] [--methods ours,ablations,quantizers,nncodec,lossless,integers,pruned] [--fresh]
// Writes bench/results/rate.json, a plot for each model, and docs/BENCHMARKS.md. What other methods gave stays in .cache/rate; --fresh measures
// it anew. A part of the models or methods updates that part of the results. Exit status 1 if a target is missed.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { brotliCompressSync, constants } from 'node:zlib';
import { flag, readOptions, some } from '../scripts/options.mjs';
import { ROOT, fail, step } from '../scripts/tools.mjs';
import { readSafetensors, writeSafetensors } from '../tests/common/safetensors.mjs';
import { buildCommand } from './artifacts.mjs';
import { DATA, prepareModel, prepareVenv, python, statisticsOf, timed, venvVersion } from './rate/models.mjs';
import { LOSSLESS, MODELS, report, targets, tfjsReport, tfjsTargets } from './rate/report.mjs';
import { measurePruned, prunedReport, prunedTargets } from './rate/pruned.mjs';
import { quantizedModels } from './rate/tfjs.mjs';
import { publish, reportTargets, writeResults } from './table.mjs';

const RESULTS = join(ROOT, 'bench/results/rate.json');
const PRUNED_RESULTS = join(ROOT, 'bench/results/rate-pruned.json');
const TFJS_RESULTS = join(ROOT, 'bench/results/rate-tfjs.json');

const RATES = [1.6, 2, 2.5, 3, 3.5, 4, 5, 6, 7];
const MIDDLE_RATES = [2.5, 3, 3.5, 4];
/** Ours, by what the encoder is told. */
const CONFIGURATIONS = [
  { name: 'ours, calibrated', statistics: 'calibrated', flags: [], rates: RATES },
  { name: 'ours, random inputs', statistics: 'random', flags: [], rates: MIDDLE_RATES },
  { name: 'ours, uncalibrated', flags: [], rates: MIDDLE_RATES },
];
/** The first of these with one tool off. */
const ABLATIONS = [
  { name: 'without error feedback', statistics: 'calibrated', flags: ['--no-feedback'], rates: MIDDLE_RATES },
  { name: 'without the trellis', statistics: 'calibrated', flags: ['--quantizer', 'uniform'], rates: MIDDLE_RATES },
  { name: 'without transforms', statistics: 'calibrated', flags: ['--no-transform'], rates: MIDDLE_RATES },
  { name: 'with λ = 0', statistics: 'calibrated', flags: ['--lambda', '0'], rates: MIDDLE_RATES },
  { name: 'without importances', statistics: 'moments', flags: [], rates: MIDDLE_RATES },
];
/** Of each model; the others have models of their own. */
const OF_MODELS = ['ours', 'quantizers', 'nncodec', 'lossless', 'ablations'];
const METHODS = [...OF_MODELS, 'integers', 'pruned'];

const { models, methods, fresh } = readOptions(import.meta.filename, { models: some(Object.keys(MODELS)), methods: some(METHODS), fresh: flag });

prepareVenv();
mkdirSync(DATA, { recursive: true });
const command = buildCommand();
const results = existsSync(RESULTS) ? JSON.parse(readFileSync(RESULTS, 'utf8')) : {};
for (const model of methods.some((method) => OF_MODELS.includes(method)) ? models : []) {
  const source = prepareModel(model);
  if (source === undefined) {
    console.log(`${model}: not here, skipped`);
    continue;
  }
  results[model] = { ...results[model], ...measure(model, source) };
  writeResults('rate', results);
}
const tfjs = methods.includes('integers') ? quantizedModels().map(tfjsModel) : existsSync(TFJS_RESULTS) ? JSON.parse(readFileSync(TFJS_RESULTS, 'utf8')) : [];
if (methods.includes('integers')) writeResults('rate-tfjs', tfjs);
const pruned = methods.includes('pruned') ? measurePruned(command) : existsSync(PRUNED_RESULTS) ? JSON.parse(readFileSync(PRUNED_RESULTS, 'utf8')) : [];
if (methods.includes('pruned')) writeResults('rate-pruned', pruned);
step('Plots');
python('rate/plot.py', [RESULTS, join(ROOT, 'bench/results')]);
publish('rate', [report(results), ...tfjsReport(tfjs), ...prunedReport(pruned)].join('\n\n'));
process.exitCode = reportTargets([...targets(results), ...tfjsTargets(tfjs), ...prunedTargets(pruned)]) ? 0 : 1;

function measure(model, source) {
  const list = JSON.parse(python('rate/peers.py', ['--cache', DATA, '--list', model]));
  const statistics = { calibrated: statisticsOf(model, source, 'calibrated', fresh), random: statisticsOf(model, source, 'random', fresh) };
  if (methods.includes('ablations')) statistics.moments = withoutImportances(statistics.calibrated);
  const measured = { weights: list.weights, bytes: statSync(source).size };
  if (methods.includes('quantizers')) measured.quantizers = peers(model, list.quantizers);
  if (methods.includes('nncodec')) {
    measured.nncodec = peers(model, list.nncodec);
    measured.nncodecImportances = peers(model, list.nncodecImportances, statistics.calibrated);
  }
  if (methods.includes('lossless')) {
    measured.lossless = LOSSLESS.map((float) => lossless(model, float, peer(model, `zipnn-${float}`)));
  }
  const curves = (configurations) =>
    configurations.map(({ name, statistics: kind, flags, rates }) => ({ name, points: curve(model, source, statistics[kind], flags, rates, name) }));
  if (methods.includes('ours')) measured.ours = curves(CONFIGURATIONS);
  if (methods.includes('ablations')) measured.ablations = curves(ABLATIONS);
  return measured;
}

/** The same statistics with moments alone. */
function withoutImportances(statistics) {
  const path = statistics.replace('calibrated', 'moments');
  const { metadata, tensors } = readSafetensors(statistics);
  writeSafetensors(path, tensors.filter(({ name }) => name.endsWith('_moments')), metadata);
  return path;
}

/** What other methods give, in order, each with its distortion. */
function peers(model, names, importances) {
  return names.flatMap((name) => {
    const { files, distortion } = peer(model, name, importances);
    return files.map((file) => ({ name: file.then ? `${name} + ${file.then}` : name, ...file, distortion }));
  });
}

function peer(model, method, importances) {
  const key = createHash('sha256').update(venvVersion());
  if (importances) key.update(readFileSync(importances));
  const path = join(DATA, 'peers', `${model}-${method}-${key.digest('hex').slice(0, 12)}.json`);
  if (fresh || !existsSync(path)) {
    step(`${model}: ${method}`);
    const printed = python('rate/peers.py', ['--cache', DATA, ...(importances ? ['--importances', importances] : []), model, method]);
    mkdirSync(join(DATA, 'peers'), { recursive: true });
    writeFileSync(path, printed);
  }
  return JSON.parse(readFileSync(path, 'utf8'));
}

/** Ours at each rate. */
function curve(model, source, statistics, flags, rates, name) {
  step(`${model}: ${name}`);
  const folders = [];
  const points = rates.map((bits) => {
    const { folder, ...point } = roundTrip(source, [...flags, '--bits', String(bits), ...(statistics ? ['--calibration', statistics] : [])]);
    folders.push(folder);
    return point;
  });
  const files = folders.map((folder) => join(folder, source.split('/').at(-1)));
  const lines = python('rate/evaluate.py', ['--cache', DATA, model, ...files]).trim().split('\n');
  for (const folder of folders) rmSync(folder, { recursive: true });
  return points.map((point, index) => ({ ...point, distortion: JSON.parse(lines[index]) }));
}

function roundTrip(source, flags) {
  const folder = mkdtempSync(join(DATA, 'decoded-'));
  const archive = `${folder}.mcwc`;
  const mcwc = (...args) => execFileSync(command, args, { stdio: 'pipe' });
  const encoding = JSON.parse(python('rate/peak.py', [command, 'encode', ...[source].flat().map((path) => resolve(path)), '-o', archive, '--json', ...flags]));
  const decode_s = timed(() => mcwc('decode', archive, '-o', folder, '--json'));
  const bytes = statSync(archive).size;
  rmSync(archive);
  return { folder, bytes, encode_s: encoding.seconds, encode_cpu_s: encoding.cpu_seconds, encode_bytes: encoding.peak_bytes, decode_s };
}

function lossless(model, float, { files }) {
  step(`${model}: lossless, ${float}`);
  const source = join(DATA, `${model}-${float}.safetensors`);
  const [ours, adaptive] = [[], ['--adaptive']].map((flags) => {
    const { folder, ...coded } = roundTrip(source, ['--lossless', ...flags]);
    if (!readFileSync(source).equals(readFileSync(join(folder, `${model}-${float}.safetensors`)))) fail(`${source} does not come back`);
    rmSync(folder, { recursive: true });
    return coded;
  });
  return { float, original: statSync(source).size, ours, adaptive, zipnn: files[0], zstd: files[1] };
}

/** A model of quantized integers, by us, and by brotli and zstd, which take each file on its own. */
function tfjsModel({ name, files }) {
  step(name);
  const { folder, ...ours } = roundTrip(files, ['--lossless']);
  for (const file of files) {
    if (!readFileSync(file).equals(readFileSync(join(folder, file.split('/').at(-1))))) fail(`${file} does not come back`);
  }
  rmSync(folder, { recursive: true });
  const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 24 };
  const sum = (bytes) => files.reduce((total, file) => total + bytes(readFileSync(file)), 0);
  const brotli = sum((file) => brotliCompressSync(file, { params }).length);
  return { name, original: sum((file) => file.length), ours, brotli, zstd: Number(python('rate/zstd.py', files)) };
}
