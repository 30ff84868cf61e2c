// Payloads -> tensors on WebGPU.
import { AcquiredGpu, Archive, GpuBatch, GpuDecoder } from 'mcwc-gpu-wasm';
import { Choice } from './choice.js';
import { McwcError } from './errors.js';
import { cutWords } from './gpu-words.js';

/** Buffers are whole 16-byte units, as those that the decoder makes. */
const ALIGN_BYTES = 16;
/** GPUBufferUsage: STORAGE, COPY_SRC and COPY_DST, as those. */
const USAGE = 0x80 | 0x04 | 0x08;
/** GPUBufferUsage: MAP_READ and COPY_DST. */
const STAGING_USAGE = 0x01 | 0x08;
/** GPUMapMode. */
const MAP_READ = 1;

/** Most weights of one chunk (FORMAT.md). A GPU takes as long for fewer chunks as for many, and then has to give them back. */
const CHUNK_LEN_MAX = 1 << 18;

/** Most batches whose levels a device holds at once. */
const BATCHES_AT_ONCE = 2;

/** One for each device; that of no device is the one we asked for ourselves. */
const gpus = new Map<GPUDevice | undefined, Promise<Gpu>>();

/** Rejects if there is no GPU, or none that computes what it should. */
export async function createGpu(device: GPUDevice | undefined): Promise<Gpu> {
  let gpu = gpus.get(device);
  if (!gpu) {
    gpu = Gpu.create(device);
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
  /** What comes back from it. */
  readonly arrays = new Choice('arrays', CHUNK_LEN_MAX);
  /** What stays on it. */
  readonly buffers = new Choice('buffers', 0);
  #decoder!: GpuDecoder;
  #lost: string | undefined;
  /** What decodes on it now, and whoever waits for a turn. */
  #decoding = 0;
  #waiting: (() => void)[] = [];

  static async create(given: GPUDevice | undefined): Promise<Gpu> {
    const acquired = await AcquiredGpu.acquire(given);
    const gpu = new Gpu(acquired);
    gpu.#decoder = await gpu.checked(() => acquired.build());
    await gpu.#test();
    return gpu;
  }

  private constructor({ device, name }: AcquiredGpu) {
    this.device = device;
    this.name = name;
    device.lost.then(({ message, reason }) => (this.#lost = `the device was lost: ${message || reason}`));
  }

  async begin(archive: Archive, frames: number[], dtype: string | undefined): Promise<Batch> {
    return this.checked(() => this.#decoder.begin(archive, Uint32Array.from(frames), dtype), (batch) => batch.free());
  }

  /** Sends a verified payload up; gives the bytes that are on their way. To be `checked`. */
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

  /** The tensors of a batch all of whose chunks have been added; the batch is used up. */
  async finish(batch: Batch): Promise<GPUBuffer[]> {
    const destroy = (buffers: GPUBuffer[]) => buffers.forEach((buffer) => buffer.destroy());
    let tensors: GPUBuffer[] = [];
    // All chunks are there: nobody waits for a network here.
    while (this.#decoding >= BATCHES_AT_ONCE) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#decoding++;
    try {
      const [status, ...decoded] = await this.checked(() => this.#decoder.finish(batch), destroy);
      tensors = decoded;
      batch.check(await this.read(status, status.size).finally(() => status.destroy()));
      return tensors;
    } catch (error) {
      destroy(tensors);
      throw error;
    } finally {
      this.#decoding--;
      this.#waiting.shift()?.();
      batch.free();
    }
  }

  /** The first bytes of a buffer. */
  async read(buffer: GPUBuffer, bytes: number): Promise<Uint8Array<ArrayBuffer>> {
    const { device } = this;
    const size = Math.ceil(bytes / 4) * 4;
    const copy = () => {
      const staging = device.createBuffer({ size, usage: STAGING_USAGE });
      const encoder = device.createCommandEncoder();
      encoder.copyBufferToBuffer(buffer, 0, staging, 0, size);
      device.queue.submit([encoder.finish()]);
      return staging;
    };
    const staging = await this.checked(copy, (staging) => staging.destroy());
    try {
      await staging.mapAsync(MAP_READ);
      return new Uint8Array(staging.getMappedRange().slice(0, bytes));
    } catch (error) {
      throw new McwcError('gpu', this.#lost ?? (error as Error).message);
    } finally {
      staging.destroy();
    }
  }

  cast(bytes: Uint8Array, from: string, to: string): Uint8Array<ArrayBuffer> {
    return GpuDecoder.cast(bytes, from, to) as Uint8Array<ArrayBuffer>;
  }

  /** Bytes that were decoded on the CPU. */
  async upload(bytes: Uint8Array<ArrayBuffer>): Promise<GPUBuffer> {
    const size = Math.max(1, Math.ceil(bytes.length / ALIGN_BYTES)) * ALIGN_BYTES;
    const create = () => {
      const buffer = this.device.createBuffer({ size, usage: USAGE, mappedAtCreation: true });
      new Uint8Array(buffer.getMappedRange()).set(bytes);
      buffer.unmap();
      return buffer;
    };
    return this.checked(create, (buffer) => buffer.destroy());
  }

  /** What `work` makes, once the device has accepted it; if not, `undo` takes it back. */
  async checked<T>(work: () => T, undo?: (made: T) => void): Promise<T> {
    const { device } = this;
    const filters = ['internal', 'validation', 'out-of-memory'] as const;
    for (const filter of filters) device.pushErrorScope(filter);
    let made: T;
    let popped: Promise<GPUError | null>[];
    try {
      made = work();
    } finally {
      // Before anything is awaited: scopes of concurrent calls must not interleave.
      popped = filters.map(() => device.popErrorScope());
    }
    try {
      const error = (await Promise.all(popped)).find((error) => error);
      if (this.#lost) throw new McwcError('gpu', this.#lost);
      if (error) throw new McwcError(error instanceof GPUOutOfMemoryError ? 'unsupported' : 'gpu', error.message);
    } catch (error) {
      undo?.(made);
      throw error;
    }
    return made;
  }

  /** Decodes a small archive whose weights are exact. */
  async #test(): Promise<void> {
    const bytes = GpuDecoder.selfTest() as Uint8Array<ArrayBuffer>;
    const archive = new Archive(bytes);
    const chunks = archive.chunks();
    const batch = await this.begin(archive, [...archive.describe()[5].keys()], undefined);
    archive.free();
    const needed = batch.neededChunks();
    for (let step = 0; step < needed.length; step += 3) {
      const [chunk, frame, index] = needed.subarray(step);
      const [, offset, length] = chunks.subarray(3 * chunk);
      this.add(batch, frame, index, bytes.subarray(offset, offset + length));
    }
    const read: number[] = [];
    for (const buffer of await this.finish(batch)) {
      read.push(...(await this.read(buffer, buffer.size)));
      buffer.destroy();
    }
    if (!GpuDecoder.isRight(Uint8Array.from(read))) throw new McwcError('gpu', 'the self-test gave wrong values');
  }
}
