// Packed levels -> tensors on WebGPU, and the bindings of the module that does it. Loaded only where there is a GPU.
import { Archive, GpuReconstructor, initSync } from 'mcwc-gpu-wasm';
import { GpuReader, type GpuReaderOptions } from './gpu-reader.js';

export { Archive, initSync };

/** Buffers are whole 16-byte units, as those that the reconstructor makes. */
const ALIGN_BYTES = 16;
/** GPUBufferUsage: STORAGE, COPY_SRC and COPY_DST, as those. */
const USAGE = 0x80 | 0x04 | 0x08;

/** One for each device; that of no device is the one we asked for ourselves. */
const gpus = new Map<GPUDevice | undefined, Promise<Gpu>>();

/** Rejects if there is no GPU, or none that computes what it should. */
export async function createGpu(device: GPUDevice | undefined): Promise<Gpu> {
  let gpu = gpus.get(device);
  if (!gpu) {
    gpu = GpuReconstructor.create(device).then((reconstructor) => new Gpu(reconstructor));
    gpus.set(device, gpu);
    const forget = () => gpus.delete(device);
    gpu.then((created) => created.device.lost.then(forget), forget);
  }
  return gpu;
}

/** A device that passed the self-test. Errors have the code `gpu`, or `unsupported` if only this frame is refused. */
export class Gpu {
  readonly device: GPUDevice;
  readonly name: string;
  #reconstructor: GpuReconstructor;

  constructor(reconstructor: GpuReconstructor) {
    this.device = reconstructor.device;
    this.name = reconstructor.name;
    this.#reconstructor = reconstructor;
  }

  reader(options: GpuReaderOptions): GpuReader {
    return new GpuReader(this, options);
  }

  /** The tensor of a frame, from the payload of its side chunk, if it has one, and its levels. */
  reconstruct(
    archive: Archive,
    frame: number,
    side: Uint8Array | undefined,
    levels: Uint8Array,
    levelBits: number,
  ): Promise<GPUBuffer> {
    return this.#reconstructor.reconstruct(archive, frame, side, levels, levelBits);
  }

  read(buffer: GPUBuffer, bytes: number): Promise<Uint8Array<ArrayBuffer>> {
    return this.#reconstructor.read(buffer, bytes) as Promise<Uint8Array<ArrayBuffer>>;
  }

  /** Bytes that were decoded on the CPU. */
  upload(bytes: Uint8Array<ArrayBuffer>): GPUBuffer {
    const size = Math.max(1, Math.ceil(bytes.length / ALIGN_BYTES)) * ALIGN_BYTES;
    const buffer = this.device.createBuffer({ size, usage: USAGE, mappedAtCreation: true });
    new Uint8Array(buffer.getMappedRange()).set(bytes);
    buffer.unmap();
    return buffer;
  }
}
