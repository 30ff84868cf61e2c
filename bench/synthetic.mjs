// Safetensors files that no one trained: a large one of noise that looks like weights, and a model that has grown in depth.
import { createHash } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';
import { readSafetensors, safetensorsHeader, writeSafetensors } from './safetensors.mjs';

const TENSOR_WEIGHTS = 1 << 23;
const BLOCK_BYTES = 4 * TENSOR_WEIGHTS;

/** Noise of a grown layer, relative to the weights' root mean square. */
const GROWTH_NOISE = 0.1;

/** Alternately float32 and bfloat16 tensors of 2^23 weights each. Gives the file's SHA-256. */
export function writeSynthetic(path, bytes) {
  const float32 = noise();
  const blocks = { F32: float32, BF16: toBfloat16(float32) };
  const tensors = plan(bytes);
  const hash = createHash('sha256');
  const file = openSync(path, 'w');
  const write = (block) => {
    for (let at = 0; at < block.length; ) at += writeSync(file, block, at);
    hash.update(block);
  };
  write(safetensorsHeader(tensors));
  tensors.forEach(({ dtype }, index) => {
    // No two tensors may be equal, or the encoder would store one of them.
    blocks[dtype].writeUInt16LE(index, 0);
    write(blocks[dtype]);
  });
  closeSync(file);
  return hash.digest('hex');
}

/** A float32 model, and after it its encoder layers once more, with noise. */
export function writeGrown(path, model) {
  const { tensors } = readSafetensors(model);
  const layer = /^encoder\.layer\.(\d+)(?=\.)/;
  const layers = tensors.filter(({ name }) => layer.test(name));
  const count = 1 + Math.max(...layers.map(({ name }) => Number(layer.exec(name)[1])));
  const normals = gaussians(1);
  const grown = layers.map(({ name, data, ...tensor }) => {
    const weights = new Float32Array(new Uint8Array(data).buffer);
    const noise = GROWTH_NOISE * Math.sqrt(weights.reduce((sum, weight) => sum + weight * weight, 0) / weights.length);
    weights.forEach((weight, index) => (weights[index] = weight + noise * normals.next().value));
    const copy = name.replace(layer, (_, index) => `encoder.layer.${Number(index) + count}`);
    return { ...tensor, name: copy, data: Buffer.from(weights.buffer) };
  });
  writeSafetensors(path, [...tensors, ...grown]);
}

function plan(bytes) {
  const tensors = [];
  for (let offset = 0; offset < bytes; ) {
    const dtype = tensors.length % 2 ? 'BF16' : 'F32';
    const end = offset + BLOCK_BYTES / (dtype === 'F32' ? 1 : 2);
    const shape = [4096, TENSOR_WEIGHTS / 4096];
    tensors.push({ name: `layers.${tensors.length}.weight`, dtype, shape, data_offsets: [offset, end] });
    offset = end;
  }
  return tensors;
}

function noise() {
  const normals = gaussians(1);
  const values = Float32Array.from({ length: TENSOR_WEIGHTS }, () => 0.02 * normals.next().value);
  return Buffer.from(values.buffer);
}

/** By the method of Box and Muller. */
export function* gaussians(seed) {
  const uniform = () => ((seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) + 0.5) / 2 ** 32;
  for (;;) {
    const radius = Math.sqrt(-2 * Math.log(uniform()));
    const angle = 2 * Math.PI * uniform();
    yield radius * Math.cos(angle);
    yield radius * Math.sin(angle);
  }
}

function toBfloat16(float32) {
  const halves = new Uint16Array(float32.buffer, float32.byteOffset, float32.length / 2);
  return Buffer.from(Uint16Array.from({ length: TENSOR_WEIGHTS }, (_, index) => halves[2 * index + 1]).buffer);
}
