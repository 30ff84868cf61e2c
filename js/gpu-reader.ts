// Frames -> tensors by way of the GPU: verified payloads go up, weights appear there. What it does not take, and everything once
// it has failed, is left to the CPU. Loaded only where there is a GPU.
import type { Chunks } from './chunks.js';
import type { Gathered } from './decoder.js';
import type { Description } from './description.js';
import { bytesPerElement } from './dtype.js';
import { McwcError } from './errors.js';
import type { Batch, Gpu } from './gpu-device.js';
import { verify } from './hashes.js';
import { unlessAborted } from './platform.js';
import { batchesOf } from './pool/batches.js';
import type { Piece, Step } from './steps.js';
import type { Backend, GpuStats, GpuTensor } from './types.js';
import { type WasmArchive, load, verifyLoaded } from './wasm.js';

export interface GpuReaderOptions {
  header: WasmArchive;
  memory: WebAssembly.Memory;
  description: Description;
  chunks: Chunks;
  /** Of all chunks, one after another. */
  hashes: Uint8Array;
  /** Called with the steps that are about to be waited for, and with those that have been decoded. */
  ask(steps: Step[]): void;
  count(steps: Step[]): void;
  throwIfClosed(): void;
  /** The same as an error of the package: this script has a class of its own. */
  errorOf(error: unknown): Error;
  /** Called when the GPU fails, and the CPU takes over. */
  onLost(reason: string): void;
}

/** A tensor that is to be in a buffer. */
export interface Wanted {
  tensor: Description['tensors'][number];
  pass: number;
  /** Its bytes, decoded on the CPU. */
  decode(): Promise<ArrayBuffer>;
  release(): Promise<void>;
}

type Output = 'f32' | 'f16' | undefined;

/** Most levels that are decoded together, unless a tensor has more: they take four bytes each while they are. */
const LEVELS_MAX = 1 << 24;
/** Groups of a call under way at once: the chunks of one are sent while another is decoded. */
const GROUPS_AT_ONCE = 2;

export class GpuReader {
  readonly stats: GpuStats = { arrivalMs: 0, verifyMs: 0, uploadMs: 0, decodeMs: 0, uploadedBytes: 0 };

  /** Why there is no GPU any more. */
  #lost = '';

  /** Of each frame, the tensors that it belongs to. */
  #tensorsOf: Wanted['tensor'][][] = [];

  /** `gpu`: undefined once it has failed. */
  constructor(
    public gpu: Gpu | undefined,
    private readonly options: GpuReaderOptions,
  ) {
    for (const tensor of options.description.tensors) for (const frame of tensor.frames) (this.#tensorsOf[frame] ??= []).push(tensor);
  }

  /** The pieces from `offset` on, with those of a frame that the GPU can take put together. */
  merged(pieces: Piece[], file: number, offset: number): Piece[] {
    if (!this.gpu) return pieces;
    const { frames } = this.options.description;
    const merged: Piece[] = [];
    for (const piece of pieces) {
      const last = merged.at(-1);
      const { frame } = piece;
      if (frame < 0 || !frames[frame].onGpu) {
        merged.push(piece);
      } else if (last?.parts && last.frame === frame && offset < last.end!) {
        last.parts.push(piece);
        last.bytes += piece.bytes;
      } else {
        const holds = ({ offset: first, bytes }: { offset: number; bytes: number }) => first <= offset && offset < first + bytes;
        const tensor = this.#tensorsOf[frame].find((tensor) => tensor.file === file && holds(tensor))!;
        const end = tensor.offset + tensor.bytes;
        merged.push({ frame, chunk: -1, decoded: tensor.bytes, skip: offset - tensor.offset, bytes: piece.bytes, parts: [piece], end });
      }
      offset += piece.bytes;
    }
    return merged;
  }

  /** A merged piece; undefined if its parts have to be decoded on the CPU. */
  async read({ frame, skip, bytes, decoded }: Piece, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const buffer = (await this.#decoded([frame], undefined, signal))?.[0];
    if (!buffer) return undefined;
    try {
      return (await this.gpu?.read(buffer, decoded))?.subarray(skip, skip + bytes);
    } catch (error) {
      this.#leave((error as Error).message);
      return undefined;
    } finally {
      buffer.destroy();
    }
  }

  /** Tensors in buffers; those that the GPU does not take are decoded on the CPU. Rejects if there is no GPU any more. */
  async tensors(wanted: Wanted[], output: Output, signal?: AbortSignal): Promise<GpuTensor[]> {
    const made: GPUBuffer[] = [];
    const done: Promise<GpuTensor[]>[] = [];
    try {
      for (const group of this.#groups(wanted)) {
        await done.at(-GROUPS_AT_ONCE);
        const tensors = this.#group(group, output, made, signal);
        tensors.catch(() => {});
        done.push(tensors);
      }
      return (await Promise.all(done)).flat();
    } catch (error) {
      await Promise.allSettled(done);
      made.forEach((buffer) => buffer.destroy());
      throw error;
    }
  }

  /** Tensors that are decoded together, in their order. */
  #groups(wanted: Wanted[]): Wanted[][] {
    const groups: Wanted[][] = [];
    let levels = Infinity;
    for (const tensor of wanted) {
      const own = this.#levelsOf(tensor);
      levels += own;
      if (levels > LEVELS_MAX) {
        groups.push([]);
        levels = own;
      }
      groups.at(-1)!.push(tensor);
    }
    return groups;
  }

  /** Levels of a tensor and, about, of what it is predicted from. */
  #levelsOf({ tensor: { frames, bytes, dtype }, pass }: Wanted): number {
    let levels = 0;
    for (let frame = frameOf(frames, pass); frame >= 0; frame = this.options.description.frames[frame].reference) {
      levels += bytes / bytesPerElement(dtype);
    }
    return levels;
  }

  /** Their buffers are added to `made`, even if others fail. */
  async #group(group: Wanted[], output: Output, made: GPUBuffer[], signal?: AbortSignal): Promise<GpuTensor[]> {
    const { frames } = this.options.description;
    const frame = ({ tensor, pass }: Wanted) => frameOf(tensor.frames, pass);
    const onGpu = group.filter((wanted) => frames[frame(wanted)]?.onGpu);
    const decoded = onGpu.length > 0 ? await this.#decoded(onGpu.map(frame), output, signal) : [];
    made.push(...(decoded ?? []));
    if (!decoded && group.length > 1) {
      // Together they may be too much.
      const parts: GpuTensor[] = [];
      for (const wanted of group) parts.push(...(await this.#group([wanted], output, made, signal)));
      return parts;
    }
    const tensors: GpuTensor[] = [];
    let next = 0;
    for (const wanted of group) {
      const ready = wanted === onGpu[next] ? decoded?.[next++] : undefined;
      const buffer = ready ?? (await this.#onCpu(wanted, output));
      if (!ready) made.push(buffer);
      tensors.push(described(wanted, output, buffer, ready ? 'webgpu' : 'cpu'));
      await wanted.release();
    }
    return tensors;
  }

  async #onCpu({ tensor, decode }: Wanted, output: Output): Promise<GPUBuffer> {
    const { gpu } = this;
    const { errorOf } = this.options;
    if (!gpu) throw errorOf(new McwcError('gpu', `there is no GPU: ${this.#lost}`));
    const decoded = new Uint8Array(await decode(), 0, tensor.bytes);
    try {
      const bytes = output && output !== tensor.dtype ? gpu.cast(decoded, tensor.dtype, output) : decoded;
      const buffer = await gpu.upload(bytes);
      this.stats.uploadedBytes += bytes.length;
      return buffer;
    } catch (error) {
      throw errorOf(error);
    }
  }

  /** Frames' tensors; undefined if they have to be decoded on the CPU, or fewer at a time. */
  async #decoded(frames: number[], output: Output, signal?: AbortSignal): Promise<GPUBuffer[] | undefined> {
    const { header, chunks, throwIfClosed, errorOf } = this.options;
    try {
      return await chunks.repaired(async () => {
        throwIfClosed();
        const { gpu } = this;
        if (!gpu) return undefined;
        const batch = await gpu.begin(header, frames, output);
        try {
          await this.#send(gpu, batch, signal);
        } catch (error) {
          batch.free();
          throw error;
        }
        return this.#timed('decodeMs', () => gpu.finish(batch));
      });
    } catch (error) {
      const { code, message } = Object(error) as { code?: unknown; message: string };
      if (code === 'unsupported') return undefined;
      // Errors of the format have codes, those of WebGPU have none that is text; an abort is neither.
      if (signal?.aborted) throw error;
      throwIfClosed();
      if (typeof code === 'string' && code !== 'gpu') throw errorOf(error);
      this.#leave(message);
      return undefined;
    }
  }

  /** Verifies the chunks that a batch needs, while they come, and sends them up. */
  async #send(gpu: Gpu, batch: Batch, signal?: AbortSignal): Promise<void> {
    const { chunks, ask, count, throwIfClosed } = this.options;
    const steps = stepsOf(batch.neededChunks());
    ask(steps);
    let sent: Promise<void> | undefined;
    for (const [some] of batchesOf(steps, chunks)) {
      const gathered = await this.#timed('arrivalMs', () => unlessAborted(chunks.gather(some), signal));
      const payloads = await this.#timed('verifyMs', () => this.#verified(gathered));
      signal?.throwIfAborted();
      throwIfClosed();
      const add = () => {
        for (const [at, { frame, index }] of some.entries()) {
          this.stats.uploadedBytes += gpu.add(batch, frame, index, payloads[at]);
        }
      };
      // What the device thinks of it is known while the next come.
      await sent;
      sent = this.#timed('uploadMs', () => gpu.checked(add));
      sent.catch(() => {});
      count(some);
    }
    await sent;
  }

  /** The payloads, one by one, all verified. */
  async #verified(gathered: Gathered): Promise<Uint8Array<ArrayBuffer>[]> {
    const { hashes, header, memory, throwIfClosed } = this.options;
    const verified = await verify(gathered, hashes);
    throwIfClosed();
    let end = 0;
    return gathered.steps.map(({ chunk }, at) => {
      const payload = gathered.payloads.subarray(end, (end += gathered.lengths[at]));
      if (!verified[at]) {
        load(header, memory, payload);
        verifyLoaded(header, chunk);
      }
      return payload;
    });
  }

  async #timed<T>(name: 'arrivalMs' | 'verifyMs' | 'uploadMs' | 'decodeMs', run: () => Promise<T>): Promise<T> {
    const began = performance.now();
    const value = await run();
    this.stats[name] += performance.now() - began;
    return value;
  }

  #leave(reason: string): void {
    this.gpu = undefined;
    this.#lost = reason;
    this.options.onLost(reason);
  }
}

function frameOf(frames: number[], pass: number): number {
  return frames[Math.min(pass, frames.length - 1)];
}

function described({ tensor: { name, dtype, shape, bytes }, pass }: Wanted, output: Output, buffer: GPUBuffer, backend: Backend): GpuTensor {
  const made = output ?? dtype;
  const madeBytes = made === dtype ? bytes : (bytes / bytesPerElement(dtype)) * bytesPerElement(made);
  return { name, dtype: made, shape: [...shape], bytes: madeBytes, pass, backend, buffer };
}

/** `needed`: triples of chunk, frame and place in it. */
function stepsOf(needed: Int32Array): Step[] {
  return Array.from({ length: needed.length / 3 }, (_, step) => {
    const [chunk, frame, index] = needed.subarray(3 * step, 3 * step + 3);
    return { chunk, frame, index, gives: index >= 0, decoded: 0, skip: 0, take: 0, at: 0, scattered: false };
  });
}
