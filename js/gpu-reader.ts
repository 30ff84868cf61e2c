// Frames -> tensors by way of the GPU: verified payloads go up, weights appear there. What it does not take, and everything once
// it has failed, is left to the CPU. Loaded only where there is a GPU.
import { Choice, timed } from './choice.js';
import type { Chunks } from './chunks.js';
import type { Gathered } from './decoder.js';
import type { Description } from './description.js';
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
  /** Resolves when all that the pieces take is here. */
  arrival(pieces: Piece[]): Promise<void>;
  /** What the pieces decode to on the CPU. */
  decode(pieces: Piece[], signal?: AbortSignal): Promise<ArrayBuffer>;
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
  /** What makes it up on the CPU. */
  plan(): Piece[];
  release(): Promise<void>;
}

type Output = 'f32' | 'f16' | undefined;

/** Most levels that are decoded together, unless a tensor has more: they take four bytes each while they are. */
const LEVELS_MAX = 1 << 24;
/** Groups of a call under way at once: the chunks of one are sent while another is decoded. */
const GROUPS_AT_ONCE = 2;
/** Pieces that the CPU is timed on: chunks, for each of which it takes about as long, but for tensors in an order of their own. */
const SAMPLE_CHUNKS = 4;

/** All is the GPU's. */
const INSISTED = new Choice('', 0, true);

export class GpuReader {
  readonly stats: GpuStats = { arrivalMs: 0, verifyMs: 0, uploadMs: 0, decodeMs: 0, uploadedBytes: 0 };

  /** Why there is no GPU any more. */
  #lost = '';

  /** Of each frame, the tensors that it belongs to. */
  #tensorsOf: Wanted['tensor'][][] = [];

  #arrays: Choice;
  #buffers: Choice;

  /** Undefined once it has failed. */
  gpu: Gpu | undefined;

  constructor(
    gpu: Gpu,
    private readonly options: GpuReaderOptions,
    isInsisted: boolean,
  ) {
    this.gpu = gpu;
    this.#arrays = isInsisted ? INSISTED : gpu.arrays;
    this.#buffers = isInsisted ? INSISTED : gpu.buffers;
    for (const tensor of options.description.tensors) for (const frame of tensor.frames) (this.#tensorsOf[frame] ??= []).push(tensor);
  }

  /** How soon it makes what it is asked for, to be added to a reason. */
  get measured(): string {
    return this.gpu ? this.#arrays.measured + this.#buffers.measured : '';
  }

  /** The pieces from `offset` on, with those of a frame that the GPU takes put together. */
  merged(pieces: Piece[], file: number, offset: number): Piece[] {
    if (!this.gpu) return pieces;
    const { frames } = this.options.description;
    const merged: Piece[] = [];
    for (const piece of pieces) {
      const last = merged.at(-1);
      const { frame } = piece;
      if (frame < 0 || !frames[frame].onGpu || lenOf(this.#tensorsOf[frame][0]) < this.#arrays.below) {
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
  async read({ frame, skip, bytes, decoded, parts }: Piece, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const len = lenOf(this.#tensorsOf[frame][0]);
    const onGpu = () => this.#readBack(frame, decoded, signal);
    // A part says little of the whole.
    const read = bytes < decoded ? await onGpu() : await this.#made(this.#arrays, len, () => parts!, onGpu, signal);
    this.#throwIfOver(signal);
    return read?.subarray(skip, skip + bytes);
  }

  async #readBack(frame: number, bytes: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const buffer = (await this.#decoded([frame], undefined, signal))?.[0];
    if (!buffer) return undefined;
    try {
      return await this.gpu?.read(buffer, bytes);
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
  #levelsOf({ tensor, pass }: Wanted): number {
    let levels = 0;
    for (let frame = frameOf(tensor.frames, pass); frame >= 0; frame = this.options.description.frames[frame].reference) {
      levels += lenOf(tensor);
    }
    return levels;
  }

  /** Their buffers are added to `made`, even if others fail. */
  async #group(group: Wanted[], output: Output, made: GPUBuffer[], signal?: AbortSignal): Promise<GpuTensor[]> {
    const { frames } = this.options.description;
    const frame = ({ tensor, pass }: Wanted) => frameOf(tensor.frames, pass);
    const able = group.filter((wanted) => frames[frame(wanted)]?.onGpu);
    const own = able.map(frame);
    const len = able.reduce((sum, { tensor }) => sum + lenOf(tensor), 0);
    const onGpu = () => this.#decoded(own, output, signal);
    const all = () => able.flatMap(({ plan }) => plan());
    const decoded = able.length > 0 ? await this.#made(this.#buffers, len, all, onGpu, signal) : [];
    made.push(...(decoded ?? []));
    this.#throwIfOver(signal);
    if (!decoded && group.length > 1) {
      // Together they may be too much.
      const parts: GpuTensor[] = [];
      for (const wanted of group) parts.push(...(await this.#group([wanted], output, made, signal)));
      return parts;
    }
    const tensors: GpuTensor[] = [];
    let next = 0;
    for (const wanted of group) {
      const ready = wanted === able[next] ? decoded?.[next++] : undefined;
      const buffer = ready ?? (await this.#onCpu(wanted, output, signal));
      if (!ready) made.push(buffer);
      tensors.push(described(wanted, output, buffer, ready ? 'webgpu' : 'cpu'));
      await wanted.release();
    }
    return tensors;
  }

  async #onCpu({ tensor, plan }: Wanted, output: Output, signal?: AbortSignal): Promise<GPUBuffer> {
    const { gpu } = this;
    const { decode, errorOf } = this.options;
    if (!gpu) throw errorOf(new McwcError('gpu', `there is no GPU: ${this.#lost}`));
    const decoded = new Uint8Array(await decode(plan(), signal));
    try {
      const bytes = output && output !== tensor.dtype ? gpu.cast(decoded, tensor.dtype, output) : decoded;
      const buffer = await gpu.upload(bytes);
      this.stats.uploadedBytes += bytes.length;
      return buffer;
    } catch (error) {
      throw errorOf(error);
    }
  }

  /**
   * What the GPU makes of so many weights; undefined if it does not, or the CPU is sooner with the pieces that `plan` gives. Whoever comes
   * while that is measured does not wait for it.
   */
  async #made<T>(choice: Choice, len: number, plan: () => Piece[], onGpu: () => Promise<T | undefined>, signal?: AbortSignal): Promise<T | undefined> {
    if (choice.isOpen(len)) await this.#timed('arrivalMs', () => unlessAborted(this.options.arrival(plan()), signal));
    if (len < choice.below) return undefined;
    if (choice.isBusy || !choice.isOpen(len)) return onGpu();
    choice.isBusy = true;
    try {
      const [made, gpuMs] = await timed(onGpu);
      // What ails the CPU is noticed where it is needed.
      if (made) await this.#cpuMs(plan, choice === this.#buffers, signal).then((cpuMs) => choice.learn(len, gpuMs, cpuMs), () => {});
      return made;
    } finally {
      choice.isBusy = false;
    }
  }

  /** What the CPU would take for all pieces of a plan, and for sending them up. */
  async #cpuMs(plan: () => Piece[], isSent: boolean, signal?: AbortSignal): Promise<number> {
    const largest = plan().sort((a, b) => b.bytes - a.bytes);
    const sample = async (chunks: number) => {
      const decoded = new Uint8Array(await this.options.decode(largest.slice(0, chunks), signal));
      if (isSent) (await this.gpu?.upload(decoded))?.destroy();
      return decoded.length;
    };
    // Threads start first.
    await sample(1);
    const [sampled, ms] = await timed(() => sample(SAMPLE_CHUNKS));
    return (ms / sampled) * largest.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  #throwIfOver(signal: AbortSignal | undefined): void {
    signal?.throwIfAborted();
    this.options.throwIfClosed();
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
    const { chunks, ask, count } = this.options;
    const steps = stepsOf(batch.neededChunks());
    ask(steps);
    let sent: Promise<void> | undefined;
    for (const [some] of batchesOf(steps, chunks)) {
      const gathered = await this.#timed('arrivalMs', () => unlessAborted(chunks.gather(some), signal));
      const payloads = await this.#timed('verifyMs', () => this.#verified(gathered));
      this.#throwIfOver(signal);
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
    const [value, ms] = await timed(run);
    this.stats[name] += ms;
    return value;
  }

  #leave(reason: string): void {
    this.gpu = undefined;
    this.#lost = reason;
    this.options.onLost(reason);
  }
}

function lenOf({ shape }: Wanted['tensor']): number {
  return shape.reduce((len, side) => len * side, 1);
}

function frameOf(frames: number[], pass: number): number {
  return frames[Math.min(pass, frames.length - 1)];
}

function described({ tensor, pass }: Wanted, output: Output, buffer: GPUBuffer, backend: Backend): GpuTensor {
  const { name, dtype, shape, bytes } = tensor;
  const made = output ? lenOf(tensor) * (output === 'f32' ? 4 : 2) : bytes;
  return { name, dtype: output ?? dtype, shape: [...shape], bytes: made, pass, backend, buffer };
}

/** `needed`: triples of chunk, frame and place in it. */
function stepsOf(needed: Int32Array): Step[] {
  return Array.from({ length: needed.length / 3 }, (_, step) => {
    const [chunk, frame, index] = needed.subarray(3 * step, 3 * step + 3);
    return { chunk, frame, index, gives: index >= 0, decoded: 0, skip: 0, take: 0, at: 0, scattered: false };
  });
}
