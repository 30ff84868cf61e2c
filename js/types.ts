// The public types, and what the wasm module's `describe` gives.
import type { Archive } from './archive.js';

export type DType =
  | 'f32'
  | 'f16'
  | 'bf16'
  | 'f64'
  | 'i8'
  | 'u8'
  | 'i16'
  | 'u16'
  | 'i32'
  | 'u32'
  | 'i64'
  | 'u64'
  | 'bool'
  | 'f8_e4m3'
  | 'f8_e5m2'
  | 'i4'
  | 'u4';

/** `Float16Array` where the language has it. */
export type Float16Data = typeof globalThis extends { Float16Array: new (...args: never[]) => infer T } ? T : never;

/** Elements in row-major order; the bytes of types that JavaScript has no array for. */
export type TensorData =
  | Float32Array<ArrayBuffer>
  | Float64Array<ArrayBuffer>
  | Float16Data
  | Int8Array<ArrayBuffer>
  | Uint8Array<ArrayBuffer>
  | Int16Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | BigInt64Array<ArrayBuffer>
  | BigUint64Array<ArrayBuffer>;

export interface Tensor {
  name: string;
  dtype: DType;
  shape: number[];
  /** Which of `archive.layers` it is, from 0; the last if nothing better will come. */
  layer: number;
  data: TensorData;
}

export interface TensorInfo {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Length in bytes. */
  readonly bytes: number;
  /** Name of the file it lies in. */
  readonly file: string;
}

export interface FileInfo {
  readonly name: string;
  /** Length in bytes. */
  readonly bytes: number;
}

export interface GpuTensor {
  buffer: GPUBuffer;
  dtype: DType;
  shape: number[];
  /** As that of `Tensor`. */
  layer: number;
  bytes: number;
}

export type Backend = 'cpu' | 'webgpu';

export type ArchiveSource =
  | URL
  | string
  | Request
  | Response
  | Blob
  | ArrayBuffer
  | ArrayBufferView<ArrayBuffer>
  | ReadableStream<Uint8Array>;

export interface Progress {
  /** Bytes of the archive that have arrived. */
  loaded: number;
  /** Length of the archive, once it is known. */
  total: number | undefined;
}

export interface OpenOptions {
  /** Aborts the download and everything that is being decoded. */
  signal?: AbortSignal;
  onProgress?: (progress: Progress) => void;
  /**
   * What a delta is predicted from: an open archive, which has to stay open, or where to find one; that is then opened with
   * these options, and closed with the delta.
   */
  base?: Archive | ArchiveSource;
  /** Called for each layer, coarse to fine, as soon as it is here for all tensors. */
  onLayer?: (layer: number) => void;
  /** Where weights are reconstructed; `auto` takes WebGPU if there is a real GPU that passes a self-test. */
  backend?: 'auto' | Backend;
  /** Most workers that decode; 0 decodes on this thread. Default: one per core, at most 4. */
  workers?: number;
  /** The archive's integrity value, 32 hexadecimal digits; any other archive is refused. */
  integrity?: string;
  /** The device to use on WebGPU, so that buffers can be shared with the caller's. */
  device?: GPUDevice;
  /** Where `mcwc_bg.wasm` is, if it does not lie beside the script. */
  wasmUrl?: string | URL;
  /** That module itself, instead of its address. */
  wasm?: WebAssembly.Module | BufferSource;
  /** Where `worker.js` is. */
  workerUrl?: string | URL;
  /** Where `mcwc_gpu_bg.wasm` is, which WebGPU takes instead. */
  gpuWasmUrl?: string | URL;
  /** Where `gpu-worker.js` is. */
  gpuWorkerUrl?: string | URL;
}

export interface TensorOptions {
  signal?: AbortSignal;
  /** Which layer to wait for. Default: the finest that is here, or the first if none is. */
  layer?: number | 'final';
  /** Memory to reuse for the result. It is transferred away; `data` is a view of the same memory. */
  buffer?: ArrayBuffer;
}

export interface FileOptions {
  /** Which layer of its tensors the file has. Default: the final one. */
  layer?: number | 'final';
}

/** What the header says. */
export interface Description {
  integrity: string;
  bytes: number;
  metadata: Record<string, string>;
  files: FileInfo[];
  tensors: (Omit<TensorInfo, 'file'> & { file: number; offset: number; frames: number[] })[];
  /** The archive's own, then those of its base. */
  frames: Frame[];
}

export interface Frame {
  /** -1 if there is none. */
  sideChunk: number;
  firstChunk: number;
  chunkCount: number;
  /** The frame that it is predicted from; -1 if there is none. Those of the base follow the archive's own. */
  reference: number;
  /** Bits that its levels need, most likely; 0 for what the GPU does not take: planes, and levels under a transform. */
  levelBits: number;
  /** Whether a chunk's elements lie apart in the tensor. */
  scattered: boolean;
}
