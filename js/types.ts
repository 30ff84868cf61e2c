// The public types, but for `OpenOptions`. They lead to no others, and are valid in every TypeScript since 5.4, with the types
// of browsers or those of Node: what not all of these declare is looked up in the program that uses them.

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

/** What `globalThis[Name]` constructs; `Otherwise` if the program does not know it. */
type Instance<Name extends string, Otherwise> = typeof globalThis extends { [name in Name]: { prototype: infer T } } ? T : Otherwise;

type WasmModule = typeof globalThis extends { WebAssembly: { Module: { prototype: infer T } } } ? T : object;

/** That typed array in a memory of its own, which only newer versions tell from shared memory. */
type TypedArray<Name extends string> = typeof globalThis extends { [name in Name]: { of(...elements: never[]): infer T } } ? T : never;

export type ByteArray = TypedArray<'Uint8Array'>;

/** Of each dtype: elements in row-major order, or the bytes of types that JavaScript has no array for. */
interface TensorArrays {
  f32: TypedArray<'Float32Array'>;
  /** The bits, where the language has no `Float16Array`. */
  f16: TypedArray<'Float16Array'> | TypedArray<'Uint16Array'>;
  bf16: TypedArray<'Uint16Array'>;
  f64: TypedArray<'Float64Array'>;
  i8: TypedArray<'Int8Array'>;
  u8: ByteArray;
  i16: TypedArray<'Int16Array'>;
  u16: TypedArray<'Uint16Array'>;
  i32: TypedArray<'Int32Array'>;
  u32: TypedArray<'Uint32Array'>;
  i64: TypedArray<'BigInt64Array'>;
  u64: TypedArray<'BigUint64Array'>;
  bool: ByteArray;
  f8_e4m3: ByteArray;
  f8_e5m2: ByteArray;
  i4: ByteArray;
  u4: ByteArray;
}

export type TensorData<T extends DType = DType> = TensorArrays[T];

/** Told apart by `dtype`: that of `'f32'` has a `Float32Array`. */
export type Tensor = { [T in DType]: TensorOf<T> }[DType];

interface TensorOf<T extends DType> {
  name: string;
  dtype: T;
  shape: number[];
  /** Which of `archive.passes` it is, from 0; the last if nothing better will come. */
  pass: number;
  data: TensorData<T>;
}

export interface TensorInfo {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Length in bytes. */
  readonly bytes: number;
  /** Name of the file it lies in. */
  readonly file: string;
  /** Where it begins in that file. */
  readonly offset: number;
}

export interface FileInfo {
  readonly name: string;
  /** Length in bytes. */
  readonly bytes: number;
}

export interface GpuTensor {
  name: string;
  /** A `GPUBuffer` of the bytes, then zeros up to a multiple of 16. Usage: `STORAGE | COPY_SRC | COPY_DST`. */
  buffer: Instance<'GPUBuffer', { destroy(): void }>;
  dtype: DType;
  shape: number[];
  /** As that of `Tensor`. */
  pass: number;
  /** Length in bytes, without what the buffer is padded with. */
  bytes: number;
  /** What decoded it: `cpu` if it is none that the GPU takes, or the CPU was found to be sooner. */
  backend: Backend;
}

/** Where the time went on WebGPU, in milliseconds that may overlap. */
export interface GpuStats {
  /** Waiting for bytes to arrive. */
  arrivalMs: number;
  /** Checking hashes. */
  verifyMs: number;
  /** Writing compressed chunks to the queue, until the device has accepted them. */
  uploadMs: number;
  /** Decoding on the GPU, until it has told that all chunks are whole. */
  decodeMs: number;
  /** Bytes of compressed chunks, and of tensors that the CPU decoded, that were sent up. */
  uploadedBytes: number;
}

export type Backend = 'cpu' | 'webgpu';

/** Where downloaded bytes are kept: the origin private file system, the Cache API, or only memory. */
export type CacheBackend = 'opfs' | 'cache-api' | 'memory';

export type ArchiveSource =
  | URL
  | string
  | Request
  | Response
  | Blob
  | ArrayBuffer
  | ArrayBufferView
  | ReadableStream<Uint8Array>;

/** Told whenever bytes arrive; `loaded` is `total` in exactly one call, the last. */
export interface Progress {
  /** Bytes of the archive that have arrived. */
  loaded: number;
  /** Those of them that have been decoded. */
  decoded: number;
  /** Length of the archive, once it is known. */
  total: number | undefined;
  /** Where the bytes that arrived last came from. */
  from: 'network' | 'cache' | 'memory';
}

/** How an archive is opened and read. */
export interface ArchiveOptions {
  /** Aborts the download and everything that is being decoded. */
  signal?: AbortSignal;
  onProgress?: (progress: Progress) => void;
  /** Fetches the header, and then only what is asked for, by ranges; from a server that knows none, everything. */
  lazy?: boolean;
  /**
   * Keeps what is downloaded for the next time, and uses what is kept; a name keeps it apart. With `integrity`, an archive that is
   * kept whole is opened without the network.
   */
  cache?: boolean | string;
  /**
   * Whether compressed bytes stay in memory when all that depends on them has been decoded; if not, they are fetched again should
   * they be needed once more, which fails for a stream. Default: unless `lazy`.
   */
  keep?: boolean;
  /** Milliseconds for which a server may say nothing until the connection is given up, and resumed. Default: 30 000. */
  silenceMs?: number;
  /** How often a request is tried again without a new byte coming. Default: 6. */
  retries?: number;
  /** Milliseconds until it is tried again for the first time, about; later twice as long each time. Default: 500. */
  retryMs?: number;
  /** Called for each pass, coarse to fine, as soon as it is here for all tensors. Not if `lazy`, where nothing comes by itself. */
  onPass?: (pass: number) => void;
  /**
   * Where weights are reconstructed. `auto` takes WebGPU if there is a real GPU that passes a self-test, and leaves to the CPU what that is
   * found to decode sooner; `webgpu` insists, and measures nothing.
   */
  backend?: 'auto' | Backend;
  /** Most workers that decode; 0 decodes on this thread. Default: one per core, at most 4. */
  workers?: number;
  /** The archive's integrity value, 32 hexadecimal digits; any other archive is refused. */
  integrity?: string;
  /** The device to use on WebGPU, so that buffers can be shared with the caller's. */
  device?: Instance<'GPUDevice', object>;
  /** Where `mcwc_bg.wasm` is, if it does not lie beside the script. */
  wasmUrl?: string | URL;
  /** That module itself, a `WebAssembly.Module` or its bytes, instead of its address. */
  wasm?: WasmModule | ArrayBuffer | ArrayBufferView;
  /** Where `worker.js` is. */
  workerUrl?: string | URL;
  /** Where `mcwc_gpu_bg.wasm` is, which WebGPU takes instead. */
  gpuWasmUrl?: string | URL;
  /** Where `gpu-worker.js` is. */
  gpuWorkerUrl?: string | URL;
}

export interface TensorOptions {
  /** The file that the tensor is asked for by its own name: that of the model, or that in which its bytes lie. */
  file?: string;
  signal?: AbortSignal;
  /** Which pass to wait for. Default: the finest that is here, or the first if none is; the final one if `lazy`. */
  pass?: number | 'final';
  /** Memory to reuse for the result. It is transferred away; `data` is a view of the same memory. */
  buffer?: ArrayBuffer;
}

export interface GpuTensorOptions extends Omit<TensorOptions, 'buffer'> {
  /** The type that elements are to have, if not their own; their values are those of the archive's tensor, rounded to that type. */
  dtype?: 'f32' | 'f16';
}

export interface FileOptions {
  /** Which pass of its tensors the file has. Default: the final one. */
  pass?: number | 'final';
}

/** An archive of which bytes are kept. */
export interface CachedArchive {
  /** Name of the cache: that given to `open`, or `default`. */
  readonly cache: string;
  readonly integrity: string;
  /** Addresses that it was found at. */
  readonly urls: readonly string[];
  /** Bytes that are kept. */
  readonly bytes: number;
  /** Whether those are all. */
  readonly complete: boolean;
}

/** Archives that match in all that is given. */
export interface CacheFilter {
  cache?: string;
  integrity?: string;
  url?: string | URL;
  complete?: boolean;
}
