// Safetensors files that no one trained: a large one of noise that looks like weights, and a model that has grown in depth.
import { createHash } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';
import { readSafetensors, safetensorsHeader, writeSafetensors } from '../tests/common/safetensors.mjs';

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

/** A transformer of bfloat16 weights, of about this many bytes; `changed` is a part of its weights that is drawn anew. */
export function writeTransformer(path, bytes, changed = 0) {
  const block = toBfloat16(noise());
  const layers = Math.max(1, Math.round((bytes / 2 - EMBEDDINGS * HIDDEN) / LAYER_WEIGHTS));
  const tensors = transformer(layers);
  const file = openSync(path, 'w');
  const header = safetensorsHeader(tensors);
  writeSync(file, header);
  const random = uniform(1);
  const redrawn = uniform(2);
  for (const { data_offsets: [from, to] } of tensors) {
    // From anywhere in the noise, so that no two tensors resemble each other.
    let at = 2 * Math.floor(random() * TENSOR_WEIGHTS);
    for (let left = to - from; left > 0; at = 0) {
      const part = Buffer.from(block.subarray(at, Math.min(block.length, at + left)));
      for (let change = changed * part.length; change > 0; change--) {
        const place = 2 * Math.floor((redrawn() * part.length) / 2);
        part.writeUInt16LE(part.readUInt16LE(place) ^ 0x3f, place);
      }
      writeSync(file, part);
      left -= part.length;
    }
  }
  closeSync(file);
}

/** Importances of all matrices of such a transformer. */
export function transformerImportances(bytes) {
  const layers = Math.max(1, Math.round((bytes / 2 - EMBEDDINGS * HIDDEN) / LAYER_WEIGHTS));
  const random = uniform(3);
  const floats = (length) => Buffer.from(Float32Array.from({ length }, () => 0.5 + random()).buffer);
  const matrices = transformer(layers).filter(({ shape }) => shape.length === 2);
  return matrices.flatMap(({ name, shape: [rows] }) => [
    { name: `${name}/importance`, dtype: 'F32', shape: [], data: floats(1) },
    { name: `${name}/row_importance`, dtype: 'F32', shape: [rows], data: floats(rows) },
  ]);
}

const [EMBEDDINGS, HIDDEN, INNER] = [32256, 2048, 5632];
const LAYER_WEIGHTS = 4 * HIDDEN * HIDDEN + 3 * HIDDEN * INNER + 2 * HIDDEN;

function transformer(layers) {
  const shapes = [['model.embed_tokens.weight', [EMBEDDINGS, HIDDEN]]];
  for (let layer = 0; layer < layers; layer++) {
    const prefix = `model.layers.${layer}`;
    for (const part of ['q', 'k', 'v', 'o']) shapes.push([`${prefix}.self_attn.${part}_proj.weight`, [HIDDEN, HIDDEN]]);
    for (const part of ['gate', 'up']) shapes.push([`${prefix}.mlp.${part}_proj.weight`, [INNER, HIDDEN]]);
    shapes.push([`${prefix}.mlp.down_proj.weight`, [HIDDEN, INNER]]);
    for (const part of ['input', 'post_attention']) shapes.push([`${prefix}.${part}_layernorm.weight`, [HIDDEN]]);
  }
  let offset = 0;
  return shapes.map(([name, shape]) => {
    const bytes = 2 * shape.reduce((product, extent) => product * extent, 1);
    return { name, dtype: 'BF16', shape, data_offsets: [offset, (offset += bytes)] };
  });
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

/** Normal deviates, by the method of Box and Muller. */
export function* gaussians(seed) {
  const random = uniform(seed);
  for (;;) {
    const radius = Math.sqrt(-2 * Math.log(random()));
    const angle = 2 * Math.PI * random();
    yield radius * Math.cos(angle);
    yield radius * Math.sin(angle);
  }
}

/** Numbers between 0 and 1, exclusive. */
function uniform(seed) {
  return () => ((seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) + 0.5) / 2 ** 32;
}

function toBfloat16(float32) {
  const halves = new Uint16Array(float32.buffer, float32.byteOffset, float32.length / 2);
  return Buffer.from(Uint16Array.from({ length: TENSOR_WEIGHTS }, (_, index) => halves[2 * index + 1]).buffer);
}
