// Packed levels -> tensors on WebGPU. Loaded, with a wasm module of its own, only where there is a GPU to use.
import { GpuArchive as WasmArchive, GpuReconstructor, initSync } from 'mcwc-gpu-wasm';
import { McwcError } from './errors.js';
import type { OpenOptions } from './types.js';
import { loadWasm } from './platform.js';

/** Buffers are whole 16-byte units, as those that the reconstructor makes. */
const ALIGN_BYTES = 16;
/** GPUBufferUsage: STORAGE, COPY_SRC and COPY_DST, as those. */
const USAGE = 0x80 | 0x04 | 0x08;

let module: Promise<WebAssembly.Module> | undefined;
/** One reconstructor for each device; that of no device is the one we asked for ourselves. */
const gpus = new Map<GPUDevice | undefined, Promise<Gpu>>();

export async function createGpu({ device, gpuWasmUrl }: OpenOptions): Promise<Gpu> {
  const url = new URL(gpuWasmUrl ?? new URL('./mcwc_gpu_bg.wasm', import.meta.url), globalThis.location?.href);
  initSync({ module: await (module ??= loadWasm(url)) });
  let gpu = gpus.get(device);
  if (!gpu) {
    gpu = GpuReconstructor.create(device).then((reconstructor) => new Gpu(reconstructor));
    gpus.set(device, gpu);
    const forget = () => gpus.delete(device);
    gpu.then((created) => created.device.lost.then(forget), forget);
  }
  return gpu;
}

export class Gpu {
  readonly device: GPUDevice;
  readonly name: string;

  constructor(readonly reconstructor: GpuReconstructor) {
    this.device = reconstructor.device;
    this.name = reconstructor.name;
  }

  archive(head: Uint8Array): GpuArchive {
    return new GpuArchive(this, new WasmArchive(head));
  }
}

/** One archive's frames on one device. Errors have the code `gpu`, or `unsupported` if only this frame is refused. */
export class GpuArchive {
  constructor(
    private readonly gpu: Gpu,
    private readonly archive: WasmArchive,
  ) {}

  async reconstruct(frame: number, side: Uint8Array | undefined, levels: Uint8Array, levelBits: number): Promise<GPUBuffer> {
    return failing(this.gpu.reconstructor.reconstruct(this.archive, frame, side, levels, levelBits));
  }

  async read(buffer: GPUBuffer, bytes: number): Promise<Uint8Array<ArrayBuffer>> {
    return failing(this.gpu.reconstructor.read(buffer, bytes) as Promise<Uint8Array<ArrayBuffer>>);
  }

  /** Bytes that were decoded on the CPU. */
  upload(bytes: Uint8Array<ArrayBuffer>): GPUBuffer {
    const { device } = this.gpu;
    const size = Math.max(1, Math.ceil(bytes.length / ALIGN_BYTES)) * ALIGN_BYTES;
    const buffer = device.createBuffer({ size, usage: USAGE, mappedAtCreation: true });
    new Uint8Array(buffer.getMappedRange()).set(bytes);
    buffer.unmap();
    return buffer;
  }
}

async function failing<T>(result: Promise<T>): Promise<T> {
  try {
    return await result;
  } catch (error) {
    throw McwcError.from(error, 'gpu');
  }
}
