// ONNX -> statistics -> archive -> ONNX: what a network's outputs lose to the coding of its weights, with and without calibration.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import * as ort from 'onnxruntime-node';
import { NATIVE } from './common/command.mjs';
import { FLOAT, integer, integers, modelFile, node, tensor, value, values } from './common/onnx.mjs';

const ROOT = join(import.meta.dirname, '..');
const CALIBRATE = join(ROOT, 'pkg/cli.js');
const BITS = '3';
const [CHANNELS, SIDE, KERNELS, HIDDEN, OUTPUTS] = [6, 10, 24, 96, 48];
const FEATURES = KERNELS * 4 * 4;
const SAMPLES = 48;

let folder;
/** Relative squared error of the outputs for unseen inputs, by name of the encoding. */
let losses;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mcwc-calibrated-'));
  await writeFile(join(folder, 'model.onnx'), network());
  const samples = Array.from({ length: SAMPLES }, (_, index) => ({ image: nested(image(index), [1, CHANNELS, SIDE, SIDE]) }));
  await writeFile(join(folder, 'samples.json'), JSON.stringify(samples));
  await execute(process.execPath, [CALIBRATE, 'calibrate', 'model.onnx', '--samples', 'samples.json', '-o', 'stats.safetensors', '--quiet']);
  const calibration = ['--calibration', 'stats.safetensors'];
  const encodings = { plain: [], importance: [...calibration, '--no-feedback'], calibrated: calibration };
  const unseen = Array.from({ length: 16 }, (_, index) => image(1000 + index));
  const expected = await outputs('model.onnx', unseen);
  losses = {};
  for (const [name, options] of Object.entries(encodings)) {
    await execute(NATIVE, ['encode', 'model.onnx', '-o', `${name}.mcwc`, '--bits', BITS, ...options, '--json']);
    await execute(NATIVE, ['decode', `${name}.mcwc`, '-o', name, '--json']);
    losses[name] = loss(expected, await outputs(join(name, 'model.onnx'), unseen));
  }
});
after(() => rm(folder, { recursive: true }));

test('calibration saves most of what the outputs lose', () => {
  assert(losses.plain > 1e-3 && losses.plain < 1, JSON.stringify(losses));
  assert(losses.calibrated < 0.6 * losses.plain, JSON.stringify(losses));
});

test('error feedback saves more than importances alone', () => {
  assert(losses.calibrated < 0.8 * losses.importance, JSON.stringify(losses));
});

test('the package decodes a calibrated archive as the native command does', async () => {
  const { stdout } = await execute(NATIVE, ['inspect', 'calibrated.mcwc', '--json']);
  const lossy = JSON.parse(stdout).tensors.filter(({ coding }) => coding === 'key levels').map(({ name }) => name);
  assert.deepEqual(lossy.sort(), ['convolution', 'hidden', 'last']);
  const { open } = await import(join(ROOT, 'pkg/index.js'));
  const archive = await open(await readFile(join(folder, 'calibrated.mcwc')), { backend: 'cpu' });
  const bytes = Buffer.from(await archive.file('model.onnx').bytes());
  archive.close();
  assert(bytes.equals(await readFile(join(folder, 'calibrated/model.onnx'))));
});

/** A convolution, and two layers of MatMul, whose weights are [in, out]. */
function network() {
  const scaled = (seed, count, scale) => values(seed, count).map((weight) => weight * scale);
  return modelFile({
    nodes: [
      node('Conv', ['image', 'convolution'], ['c'], [integers('strides', [2, 2])]),
      node('Relu', ['c'], ['r']),
      node('Flatten', ['r'], ['f'], [integer('axis', 1)]),
      node('MatMul', ['f', 'hidden'], ['h']),
      node('Tanh', ['h'], ['t']),
      node('MatMul', ['t', 'last'], ['y']),
    ],
    tensors: [
      tensor('convolution', [KERNELS, CHANNELS, 3, 3], scaled(1, KERNELS * CHANNELS * 9, 0.3)),
      tensor('hidden', [FEATURES, HIDDEN], scaled(2, FEATURES * HIDDEN, 0.05)),
      tensor('last', [HIDDEN, OUTPUTS], scaled(3, HIDDEN * OUTPUTS, 0.2)),
    ],
    inputs: [value('image', FLOAT, ['batch', CHANNELS, SIDE, SIDE])],
    outputs: [value('y', FLOAT, ['batch', OUTPUTS])],
  });
}

/** Smooth, with channels that are nearly the same: as pictures are. */
function image(seed) {
  const waves = values(77 + seed, 12);
  const noise = values(5000 + seed, CHANNELS * SIDE * SIDE);
  return Float32Array.from(noise, (noise, at) => {
    const [channel, row, column] = [Math.floor(at / SIDE ** 2), Math.floor(at / SIDE) % SIDE, at % SIDE];
    const across = Math.sin(waves[0] * column + 6 * waves[1]) + Math.cos(waves[2] * row + 6 * waves[3]);
    return 1 + 2 * waves[4] + (1 + 0.1 * channel) * across * (0.5 + waves[5]) + 0.1 * noise;
  });
}

async function outputs(path, images) {
  const session = await ort.InferenceSession.create(join(folder, path), { intraOpNumThreads: 1 });
  const results = [];
  for (const image of images) {
    const { y } = await session.run({ image: new ort.Tensor('float32', image, [1, CHANNELS, SIDE, SIDE]) });
    results.push([...y.data]);
  }
  await session.release();
  return results;
}

function loss(expected, found) {
  const energy = (values) => values.reduce((sum, value) => sum + value * value, 0);
  const losses = expected.map((y, index) => energy(y.map((value, at) => value - found[index][at])) / energy(y));
  return losses.reduce((sum, value) => sum + value, 0) / losses.length;
}

function nested(data, [size, ...rest]) {
  if (rest.length === 0) return [...data];
  const part = data.length / size;
  return Array.from({ length: size }, (_, index) => nested(data.subarray(index * part, (index + 1) * part), rest));
}

function execute(command, args) {
  return promisify(execFile)(command, args, { cwd: folder });
}
