// Safetensors files, read and written whole; and numbers to fill them with.
import { readFileSync, writeFileSync } from 'node:fs';

/** Metadata, and name, dtype, shape and bytes of each tensor. */
export function readSafetensors(path) {
  const file = readFileSync(path);
  const start = 8 + Number(file.readBigUInt64LE());
  const { __metadata__: metadata, ...header } = JSON.parse(file.toString('utf8', 8, start));
  const tensors = Object.entries(header).map(([name, { dtype, shape, data_offsets: [from, to] }]) => ({ name, dtype, shape, data: file.subarray(start + from, start + to) }));
  return { metadata, tensors };
}

export function writeSafetensors(path, tensors, metadata) {
  let offset = 0;
  const entries = tensors.map(({ data, ...tensor }) => ({ ...tensor, data_offsets: [offset, (offset += data.length)] }));
  writeFileSync(path, Buffer.concat([safetensorsHeader(entries, metadata), ...tensors.map(({ data }) => data)]));
}

/** What comes before the bytes of tensors, of which each has its name, dtype, shape and data_offsets. */
export function safetensorsHeader(tensors, metadata) {
  const entries = Object.fromEntries(tensors.map(({ name, ...tensor }) => [name, tensor]));
  const json = Buffer.from(JSON.stringify(metadata ? { __metadata__: metadata, ...entries } : entries));
  const padding = Buffer.alloc(-json.length & 7, ' ');
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length + padding.length));
  return Buffer.concat([length, json, padding]);
}

/** A file of tensors by name: dtype, shape and numbers of each. */
export function safetensors(tensors) {
  let end = 0;
  const entries = Object.entries(tensors).map(([name, [dtype, shape, { byteLength }]]) => ({ name, dtype, shape, data_offsets: [end, (end += byteLength)] }));
  const data = Object.values(tensors).map(([, , { buffer, byteOffset, byteLength }]) => Buffer.from(buffer, byteOffset, byteLength));
  return Buffer.concat([safetensorsHeader(entries), ...data]);
}

/** Normal numbers of some scale, the same ones on every run. */
export function noise(seed) {
  const random = gaussian(seed);
  return (length, scale) => Float32Array.from({ length }, () => random() * scale);
}

/** Normal numbers. */
function gaussian(seed) {
  const uniform = () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return (seed + 0.5) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}
