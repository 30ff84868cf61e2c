// Safetensors files, read and written whole.
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
