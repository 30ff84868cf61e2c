// Frames -> tensors by way of the GPU: the workers decode their levels, the GPU reconstructs them. What it does not take, and
// everything once it has failed, is left to the CPU. Loaded only where there is a GPU.
import type { Chunks } from './chunks.js';
import type { Description } from './description.js';
import { bytesPerElement } from './dtype.js';
import type { Gpu } from './gpu.js';
import type { Job } from './pool/runner.js';
import { type Held, type Piece, levelStepsOf } from './steps.js';
import { type WasmArchive, load, verifyLoaded } from './wasm.js';

export interface GpuReaderOptions {
  header: WasmArchive;
  memory: WebAssembly.Memory;
  description: Description;
  chunks: Chunks;
  run(job: Job, signal: AbortSignal | undefined): Promise<ArrayBuffer>;
  throwIfClosed(): void;
  /** Called when the GPU fails, and the CPU takes over. */
  onLost(reason: string): void;
}

export class GpuReader {
  /** `gpu`: undefined once it has failed. */
  constructor(
    public gpu: Gpu | undefined,
    private readonly options: GpuReaderOptions,
  ) {}

  /** The pieces from `offset` on, with those of a frame that the GPU can take put together. */
  merged(pieces: Piece[], file: number, offset: number): Piece[] {
    if (!this.gpu) return pieces;
    const { frames, tensors } = this.options.description;
    const merged: Piece[] = [];
    for (const piece of pieces) {
      const last = merged.at(-1);
      const { frame } = piece;
      if (frame < 0 || frames[frame].levelBits === 0) {
        merged.push(piece);
      } else if (last?.parts && last.frame === frame && offset < last.end!) {
        last.parts.push(piece);
        last.bytes += piece.bytes;
      } else {
        const holds = ({ offset: first, bytes }: { offset: number; bytes: number }) => first <= offset && offset < first + bytes;
        const tensor = tensors.find((tensor) => tensor.frames.includes(frame) && tensor.file === file && holds(tensor))!;
        const end = tensor.offset + tensor.bytes;
        merged.push({ frame, chunk: -1, decoded: tensor.bytes, skip: offset - tensor.offset, bytes: piece.bytes, parts: [piece], end });
      }
      offset += piece.bytes;
    }
    return merged;
  }

  /** A merged piece; undefined if its parts have to be decoded on the CPU. */
  async read({ frame, skip, bytes, decoded }: Piece, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const buffer = await this.reconstruct(frame, decoded, signal);
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

  /** A frame's tensor, of this length, on the GPU, which may have to take what the CPU decodes; undefined if there is none any more. */
  async tensor(frame: number, bytes: number, decode: () => Promise<ArrayBuffer>, signal?: AbortSignal): Promise<GPUBuffer | undefined> {
    const reconstructed = await this.reconstruct(frame, bytes, signal);
    if (reconstructed || !this.gpu) return reconstructed;
    const decoded = await decode();
    return this.gpu?.upload(new Uint8Array(decoded, 0, bytes));
  }

  /** A frame's tensor, of this length, on the GPU; undefined if it has to be decoded on the CPU. */
  async reconstruct(frame: number, bytes: number, signal?: AbortSignal): Promise<GPUBuffer | undefined> {
    const { description, header, throwIfClosed } = this.options;
    const entry = description.frames[frame];
    if (!this.gpu || !entry?.levelBits) return undefined;
    const side = entry.sideChunk < 0 ? undefined : await this.options.chunks.repaired(() => this.#side(entry.sideChunk));
    const { levels, levelBits } = await this.#levels(frame, bytes, signal);
    throwIfClosed();
    try {
      return await this.gpu?.reconstruct(header, frame, side, levels, levelBits);
    } catch (error) {
      const { code, message } = error as { code?: unknown; message: string };
      if (code === 'unsupported') return undefined;
      // Errors of the format have codes, those of WebGPU have none that is text.
      if (typeof code === 'string' && code !== 'gpu') throw error;
      this.#leave(message);
      return undefined;
    }
  }

  #leave(reason: string): void {
    this.gpu = undefined;
    this.options.onLost(reason);
  }

  /** The payload of a side chunk, verified on this thread. */
  async #side(chunk: number): Promise<Uint8Array> {
    const { chunks, header, memory, throwIfClosed } = this.options;
    const payload = await chunks.payload(chunk);
    throwIfClosed();
    load(header, memory, payload);
    verifyLoaded(header, chunk);
    return payload;
  }

  /** The levels of a frame, packed in as few bits as they need. */
  async #levels(frame: number, bytes: number, signal?: AbortSignal): Promise<{ levels: Uint8Array; levelBits: number }> {
    const { run, description } = this.options;
    const { frames, tensors } = description;
    const { dtype } = tensors.find((tensor) => tensor.frames.includes(frame))!;
    for (let { levelBits } = frames[frame]; ; levelBits *= 2) {
      const levelBytes = (bytes / bytesPerElement(dtype)) * (levelBits / 8);
      const steps = (held: Held) => levelStepsOf(frame, levelBits, frames, held);
      try {
        return { levels: new Uint8Array(await run({ bytes: levelBytes, steps }, signal)), levelBits };
      } catch (error) {
        if ((error as { code?: unknown }).code !== 'limit-exceeded' || levelBits === 32) throw error;
      }
    }
  }
}
