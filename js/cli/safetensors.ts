// safetensors bytes <-> tensors.
import { concatenate } from '../protobuf.js';
import { bytesOf, isStoredType, type StoredType } from './floats.js';

export interface StoredTensor {
  type: StoredType;
  shape: number[];
  bytes: Uint8Array;
}

export function parseSafetensors(file: Uint8Array): Map<string, StoredTensor> {
  if (file.length < 8) throw new Error('it is too short');
  const length = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
  if (length > file.length - 8) throw new Error('its header is cut off');
  const header = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + length)));
  const tensors = new Map<string, StoredTensor>();
  for (const [name, entry] of Object.entries(header as Record<string, any>)) {
    if (name === '__metadata__') continue;
    const { dtype: type, shape, data_offsets: [start, end] = [] } = entry ?? {};
    if (!isStoredType(type)) throw new Error(`tensor ${JSON.stringify(name)}: dtype ${type} is not supported`);
    const bytes = file.subarray(8 + length + start, 8 + length + end);
    if (!Array.isArray(shape) || bytes.length !== elements(shape) * bytesOf(type)) {
      throw new Error(`tensor ${JSON.stringify(name)}: its bytes are not those of its shape`);
    }
    tensors.set(name, { type, shape, bytes });
  }
  return tensors;
}

export interface FloatTensor {
  name: string;
  shape: number[];
  data: Float32Array;
}

export function serializeSafetensors(tensors: FloatTensor[], metadata: Record<string, string>): Uint8Array {
  const header: Record<string, unknown> = { __metadata__: metadata };
  let offset = 0;
  for (const { name, shape, data } of tensors) {
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, (offset += data.byteLength)] };
  }
  let text = JSON.stringify(header);
  // The data starts at a multiple of eight.
  text += ' '.repeat(-new TextEncoder().encode(text).length & 7);
  const json = new TextEncoder().encode(text);
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(json.length), true);
  const data = tensors.map(({ data }) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return concatenate([length, json, ...data]);
}

export function elements(shape: number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}
