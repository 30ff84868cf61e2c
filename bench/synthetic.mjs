// A large safetensors file of noise that looks like weights, written in pieces.
import { createHash } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';

const TENSOR_WEIGHTS = 1 << 23;
const BLOCK_BYTES = 4 * TENSOR_WEIGHTS;

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
  write(header(tensors));
  tensors.forEach(({ dtype }, index) => {
    // No two tensors may be equal, or the encoder would store one of them.
    blocks[dtype].writeUInt16LE(index, 0);
    write(blocks[dtype]);
  });
  closeSync(file);
  return hash.digest('hex');
}

function plan(bytes) {
  const tensors = [];
  for (let offset = 0; offset < bytes; ) {
    const dtype = tensors.length % 2 ? 'BF16' : 'F32';
    const end = offset + BLOCK_BYTES / (dtype === 'F32' ? 1 : 2);
    tensors.push({ name: `layers.${tensors.length}.weight`, dtype, data_offsets: [offset, end] });
    offset = end;
  }
  return tensors;
}

function header(tensors) {
  const entries = tensors.map(({ name, dtype, data_offsets }) => [name, { dtype, shape: [4096, TENSOR_WEIGHTS / 4096], data_offsets }]);
  const json = JSON.stringify(Object.fromEntries(entries));
  const padded = Buffer.from(json.padEnd(Math.ceil(json.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  return Buffer.concat([length, padded]);
}

/** Gaussian, by the method of Box and Muller, from a fixed seed. */
function noise() {
  const values = new Float32Array(TENSOR_WEIGHTS);
  let seed = 1;
  const uniform = () => ((seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) + 0.5) / 2 ** 32;
  for (let index = 0; index < values.length; index += 2) {
    const radius = 0.02 * Math.sqrt(-2 * Math.log(uniform()));
    const angle = 2 * Math.PI * uniform();
    values[index] = radius * Math.cos(angle);
    values[index + 1] = radius * Math.sin(angle);
  }
  return Buffer.from(values.buffer);
}

function toBfloat16(float32) {
  const halves = new Uint16Array(float32.buffer, float32.byteOffset, float32.length / 2);
  return Buffer.from(Uint16Array.from({ length: TENSOR_WEIGHTS }, (_, index) => halves[2 * index + 1]).buffer);
}
