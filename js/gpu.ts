// Payloads -> tensors on WebGPU, and the bindings of the module that does it. Loaded only where there is a GPU.
import { Archive, GpuBatch, GpuDecoder, initSync } from 'mcwc-gpu-wasm';
import { GpuReader, type GpuReaderOptions } from './gpu-reader.js';
import { cutWords } from './gpu-words.js';

export { Archive, initSync };

/** Buffers are whole 16-byte units, as those that the decoder makes. */
const ALIGN_BYTES = 16;
/** GPUBufferUsage: STORAGE, COPY_SRC and COPY_DST, as those. */
const USAGE = 0x80 | 0x04 | 0x08;

/** One for each device; that of no device is the one we asked for ourselves. */
const gpus = new Map<GPUDevice | undefined, Promise<Gpu>>();

/** Rejects if there is no GPU, or none that computes what it should. */
export async function createGpu(device: GPUDevice | undefined): Promise<Gpu> {
  let gpu = gpus.get(device);
  if (!gpu) {
    gpu = GpuDecoder.create(device).then((decoder) => new Gpu(decoder));
    gpus.set(device, gpu);
    const forget = () => gpus.delete(device);
    gpu.then((created) => created.device.lost.then(forget), forget);
  }
  return gpu;
}

/** Frames whose chunks are awaited. */
export type Batch = GpuBatch;

/** A device that passed the self-test. Errors have the code `gpu`, or `unsupported` if only these frames are refused. */
export class Gpu {
  readonly device: GPUDevice;
  readonly name: string;
  #decoder: GpuDecoder;

  constructor(decoder: GpuDecoder) {
    this.device = decoder.device;
    this.name = decoder.name;
    this.#decoder = decoder;
  }

  reader(options: GpuReaderOptions): GpuReader {
    return new GpuReader(this, options);
  }

  begin(archive: Archive, frames: number[], dtype: string | undefined): Promise<Batch> {
    return this.#decoder.begin(archive, new Uint32Array(frames), dtype);
  }

  /** Sends a verified payload up; gives the bytes that are on their way. */
  add(batch: Batch, frame: number, index: number, payload: Uint8Array<ArrayBuffer>): number {
    if (index < 0) {
      batch.addSide(frame, payload);
      return 0;
    }
    const { first, bytes, rest } = cutWords(payload);
    const at = batch.addChunk(frame, index, rest);
    // After the words come the lanes' states, so that there are bytes to make up whole units of 4.
    const size = Math.ceil(bytes / 4) * 4;
    if (size > 0) this.device.queue.writeBuffer(batch.words, at, payload.buffer, payload.byteOffset + first, size);
    return size;
  }

  /** The tensors of a batch all of whose chunks have been added. */
  finish(batch: Batch): Promise<GPUBuffer[]> {
    return this.#decoder.finish(batch);
  }

  read(buffer: GPUBuffer, bytes: number): Promise<Uint8Array<ArrayBuffer>> {
    return this.#decoder.read(buffer, bytes) as Promise<Uint8Array<ArrayBuffer>>;
  }

  cast(bytes: Uint8Array, from: string, to: string): Uint8Array<ArrayBuffer> {
    return GpuDecoder.cast(bytes, from, to) as Uint8Array<ArrayBuffer>;
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
