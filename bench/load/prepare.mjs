// Models -> what a page would download of each: as others ship them, and archives of the same quality; made once, in .cache/load.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { brotliCompressSync, constants } from 'node:zlib';
import { run, step } from '../../scripts/tools.mjs';
import { PKG } from '../artifacts.mjs';
import { CACHE } from '../fetch.mjs';
import { prepareTuned, variant } from '../motion/models.mjs';
import { DATA as INPUTS, prepareModel, prepareVenv, python } from '../rate/models.mjs';
import { dczOf } from './server.mjs';

export const DATA = join(CACHE, 'load');
/** By the size of the file: the highest level takes ten minutes for the largest. */
const BROTLI_QUALITY = (bytes) => (bytes < 30e6 ? 11 : 9);
/** An archive meets a quality if it is better by no more than this part, or if this many bits less are not enough. */
const SLACK = 0.05;
const RESOLUTION = 0.02;
const BITS = { most: 7, least: 1.6 };

/** What each model is measured by, and the peers whose quality its archives have to have. */
const SOURCES = {
  minilm: { measure: '1-cos', peers: ['fp32', 'fp16', 'int8', 'dynamic', '4bit'], qualities: ['int8', '4bit'] },
  ocr: { measure: 'kl', peers: ['fp32', 'int8'], qualities: ['int8'] },
};
/** What is measured under zstd, too. */
const ZSTD = ['minilm int8', 'minilm 4bit'];

/**
 * What a page downloads to get a model: `path`, encoded as `encoding`; an archive's `file`; how far the outputs are; and of what is
 * sent to visitors who have something else already, that: `base` for us, for the browser `dictionary`.
 *
 * @typedef {{model: string, name: string, kind: string, path: string, bytes: number, encoding?: string, file?: string, distortion: number, base?: Variant, dictionary?: string}} Variant
 */

export const MODELS = { minilm: variantsOf, tuned: tunedVariants, ocr: variantsOf };

/** @returns {Variant[]} */
export function prepareVariants(command, models) {
  prepareVenv();
  mkdirSync(DATA, { recursive: true });
  return models.flatMap((model) => MODELS[model](command, model));
}

function variantsOf(command, model) {
  const { peers, qualities } = SOURCES[model];
  const original = originalOf(model);
  const files = Object.fromEntries(peers.map((peer) => [peer, shipped(original, peer)]));
  const far = keptDistortions(model, original, Object.values(files));
  const variants = peers.flatMap((peer, index) => {
    const encodings = ['br', ...(ZSTD.includes(`${model} ${peer}`) ? ['zstd'] : [])];
    return encodings.map((encoding) => ({ model, name: peer, kind: 'onnx', encoding, distortion: far[index], ...compressed(files[peer], encoding) }));
  });
  const archives = qualities.flatMap((peer) => {
    const { path, distortion } = archiveAs(command, model, original, peer, far[peers.indexOf(peer)]);
    const archive = { model, file: basename(original), distortion, path, bytes: statSync(path).size };
    return [
      { ...archive, name: `ours-${peer}`, kind: 'archive' },
      { ...archive, name: `ours-${peer}-bytes`, kind: 'bytes' },
    ];
  });
  return [...variants, ...archives];
}

/** The fine-tune, for those who have the model that it is made from. */
function tunedVariants(command) {
  prepareTuned();
  const original = made('tuned.onnx', (path) => python('load/minilm.py', [variant('finetuned'), path]));
  const base = variantsOf(command, 'minilm').find(({ name }) => name === 'ours-int8');
  const dictionary = shipped(originalOf('minilm'), 'int8');
  const int8 = shipped(original, 'int8');
  const delta = made('tuned.mcwc', (path) => encode(command, original, path, ['--base', base.path, '--base-weights', originalOf('minilm')]));
  const decoded = made('tuned-decoded.onnx', (path) => renameSync(decode(command, delta, original, ['--base', base.path]), path));
  const [peerFar, ourFar] = keptDistortions('minilm', original, [int8, decoded]);
  const dcz = made('tuned.dcz', (path) => {
    python('load/zstd.py', [int8, path, dictionary]);
    writeFileSync(path, dczOf(readFileSync(path), readFileSync(dictionary)));
  });
  const common = { model: 'tuned' };
  return [
    { ...common, name: 'int8-delta', kind: 'onnx', encoding: 'dcz', distortion: peerFar, path: dcz, bytes: statSync(dcz).size, dictionary },
    { ...common, name: 'ours-delta', kind: 'archive', file: basename(original), distortion: ourFar, path: delta, bytes: statSync(delta).size, base },
  ];
}

function originalOf(model) {
  if (model === 'ocr') return prepareModel(model);
  return made('minilm.onnx', (path) => python('load/minilm.py', [prepareModel(model), path]));
}

/** The model as a peer ships it. */
function shipped(original, peer) {
  if (peer === 'fp32') return original;
  const script = peer === 'dynamic' ? 'rate/int8.py' : 'load/quantize.py';
  return made(`${basename(original, '.onnx')}-${peer}.onnx`, (path) => python(script, [original, path, peer]));
}

function compressed(file, encoding) {
  const path = made(`${basename(file)}.${encoding}`, (path) => {
    if (encoding === 'zstd') return python('load/zstd.py', [file, path]);
    const bytes = readFileSync(file);
    const params = { [constants.BROTLI_PARAM_QUALITY]: BROTLI_QUALITY(bytes.length), [constants.BROTLI_PARAM_LGWIN]: 24, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length };
    writeFileSync(path, brotliCompressSync(bytes, { params }));
  });
  return { path, bytes: statSync(path).size };
}

/** The calibrated archive whose outputs are as far as `far`, or a little less. */
function archiveAs(command, model, original, peer, far) {
  const archive = join(DATA, `${model}-as-${peer}.mcwc`);
  const note = `${archive}.json`;
  if (!existsSync(note)) {
    const calibration = ['--calibration', statisticsOf(model, original)];
    const measured = (bits) => {
      encode(command, original, archive, [...calibration, '--bits', String(bits)]);
      return distortions(model, original, [decode(command, archive, original)])[0];
    };
    writeFileSync(note, JSON.stringify({ wanted: far, distortion: bisected(measured, far) }));
  }
  return { path: archive, distortion: JSON.parse(readFileSync(note, 'utf8')).distortion };
}

/** The distortion at a rate where it is at most `far`, and not much less; its logarithm falls about linearly with bits. */
function bisected(measured, far) {
  let [low, high] = [BITS.least, BITS.most].map((bits) => ({ bits, log: Math.log(measured(bits) / far) }));
  while (high.bits - low.bits > RESOLUTION) {
    // A little towards the better side, so that the next is not just missed; and never next to an end, of which points scatter.
    const part = (low.log + SLACK / 2) / (low.log - high.log);
    const bits = Number((low.bits + Math.min(Math.max(part, 0.1), 0.9) * (high.bits - low.bits)).toFixed(3));
    const log = Math.log(measured(bits) / far);
    if (log <= 0 && log > -SLACK) return far * Math.exp(log);
    if (log > 0) low = { bits, log };
    else high = { bits, log };
  }
  return measured(high.bits);
}

/** Measured on the model's own calibration inputs. */
function statisticsOf(model, original) {
  return made(`${model}-statistics.safetensors`, (path) => {
    const samples = join(DATA, `${model}-samples`);
    python('rate/samples.py', ['--cache', INPUTS, model, samples]);
    run('node', [join(PKG, 'cli.js'), 'calibrate', original, '--samples', samples, '--force', '-o', path]);
  });
}

/** How far the outputs of files are from the original's, in the model's measure. */
function distortions(model, original, files) {
  const lines = python('load/evaluate.py', ['--cache', INPUTS, model, original, ...files]).trim().split('\n');
  return lines.map((line) => JSON.parse(line)[SOURCES[model].measure]);
}

/** The same, measured once for each file's name. */
function keptDistortions(model, original, files) {
  const notes = files.map((file) => made(`${basename(file, '.onnx')}-distortion.json`, (path) => writeFileSync(path, JSON.stringify(distortions(model, original, [file])))));
  return notes.map((note) => JSON.parse(readFileSync(note, 'utf8'))[0]);
}

function encode(command, source, archive, flags) {
  step(`${basename(archive)} ${flags.filter((flag) => !flag.includes('/')).join(' ')}`);
  execFileSync(command, ['encode', source, '-o', archive, '--force', '--json', ...flags], { stdio: ['ignore', 'ignore', 'inherit'] });
}

/** The file as it comes back. */
function decode(command, archive, original, flags = []) {
  const folder = join(DATA, 'decoded');
  execFileSync(command, ['decode', archive, '-o', folder, '--force', '--json', ...flags], { stdio: ['ignore', 'ignore', 'inherit'] });
  return join(folder, basename(original));
}

/** The path of a file that `make` writes, once, to a path that it is given. */
function made(name, make) {
  const path = join(DATA, name);
  if (existsSync(path)) return path;
  step(name);
  const part = join(DATA, `part-${name}`);
  make(part);
  renameSync(part, path);
  return path;
}
