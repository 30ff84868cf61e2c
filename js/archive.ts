// An open archive: its tensors and files, read in any order.
import type { Gathered } from './decoder.js';
import { McwcError } from './errors.js';
import type { Gpu } from './gpu.js';
import { type Job, Pool } from './pool.js';
import { adopt, unlessAborted } from './platform.js';
import type { Source } from './source.js';
import { type Held, type Piece, type Step, levelStepsOf, piecesOf, stepsOf } from './steps.js';
import { bytesPerElement, dataOf } from './dtype.js';
import type {
  Backend,
  Description,
  FileInfo,
  GpuTensor,
  OpenOptions,
  Tensor,
  TensorInfo,
  TensorOptions,
} from './types.js';
import type { Wasm, WasmArchive } from './wasm.js';

/** Decoded bytes that a stream gives at once, about. */
const STREAM_BYTES = 2 << 20;
/** Parts of a stream that are decoded ahead of its reader, so that two workers can be busy. */
const STREAM_AHEAD = 1;

interface Parts {
  wasm: Wasm;
  header: WasmArchive;
  description: Description;
  source: Source;
  head: Uint8Array;
  workers: number;
  options: OpenOptions;
  gpu: Gpu | undefined;
  backendReason: string;
}

export class Archive {
  readonly tensors: readonly TensorInfo[];
  readonly files: readonly FileInfo[];
  readonly metadata: Readonly<Record<string, string>>;
  /** 32 hexadecimal digits that pin every byte; pass them to `open` to accept no other archive. */
  readonly integrity: string;
  /** Length of the archive. */
  readonly bytes: number;
  #parts: Parts;
  #chunks: Float64Array;
  #pool: Pool;
  #tensorIndex: Map<string, number>;
  #gpu: Gpu | undefined;
  #backendReason: string;
  #closed: unknown;
  #onAbort: (() => void) | undefined;

  /** @internal */
  constructor(parts: Parts) {
    const { description, wasm, header, options, workers: limit } = parts;
    const { signal } = options;
    this.#parts = parts;
    this.#chunks = header.chunks();
    this.files = description.files;
    this.tensors = description.tensors.map(({ name, dtype, shape, bytes, file }) => {
      return { name, dtype, shape, bytes, file: this.files[file].name };
    });
    this.metadata = description.metadata;
    this.integrity = description.integrity;
    this.bytes = description.bytes;
    this.#tensorIndex = new Map(description.tensors.map(({ name }, index) => [name, index]));
    this.#gpu = parts.gpu;
    this.#backendReason = parts.backendReason;
    this.#pool = new Pool({
      wasm,
      head: parts.head,
      limit,
      workerUrl: wasm.builtFor === 'cpu' ? options.workerUrl : options.gpuWorkerUrl,
      hashes: header.hashes(),
      gather: (steps, buffer) => this.#gather(steps, buffer),
      chunkBytes: (chunk) => this.#chunks[2 * chunk + 1],
      onInline: (reason) => (this.#backendReason += `; on this thread, because ${reason}`),
    });
    this.#onAbort = () => this.#end(signal?.reason);
    signal?.addEventListener('abort', this.#onAbort);
  }

  /** What reconstructs weights now. */
  get backend(): Backend {
    return this.#gpu ? 'webgpu' : 'cpu';
  }

  /** Why it is that one. */
  get backendReason(): string {
    return this.#backendReason;
  }

  /** Resolves when the whole archive is here, rejects if it never will be. */
  get downloaded(): Promise<void> {
    return this.#parts.source.complete;
  }

  /** The values of a tensor. */
  async tensor(name: string, { signal, buffer }: TensorOptions = {}): Promise<Tensor> {
    const { dtype, shape, bytes, file, offset } = this.#find(name);
    if (buffer && buffer.byteLength < bytes) {
      throw new McwcError('argument', `${name} takes ${bytes} bytes, the buffer has ${buffer.byteLength}`);
    }
    const pieces = this.#gpuPieces(this.#plan(file, offset, bytes), file, offset);
    const decoded = await this.#read(pieces, { signal, buffer });
    return { name, dtype, shape: [...shape], data: dataOf(dtype, decoded, bytes) };
  }

  /** A tensor in a buffer of the GPU's, which the caller destroys. Only with the backend `webgpu`. */
  async gpuTensor(name: string, { signal }: { signal?: AbortSignal } = {}): Promise<GpuTensor> {
    const { dtype, shape, bytes, file, offset, frame } = this.#find(name);
    const found = { dtype, shape: [...shape], bytes };
    const reconstructed = await this.#reconstruct(frame, bytes, signal);
    if (reconstructed) return { ...found, buffer: reconstructed };
    const decoded = await this.#decode(this.#plan(file, offset, bytes), { signal });
    if (!this.#gpu) throw new McwcError('gpu', `there is no GPU: ${this.#backendReason}`);
    return { ...found, buffer: this.#gpu.upload(new Uint8Array(decoded, 0, bytes)) };
  }

  file(name: string): ArchiveFile {
    this.#throwIfClosed();
    const index = this.files.findIndex((file) => file.name === name);
    if (index < 0) throw new McwcError('argument', `the archive has no file named ${JSON.stringify(name)}`);
    return new ArchiveFile(this.files[index], {
      plan: (start, bytes) => this.#gpuPieces(this.#plan(index, start, bytes), index, start),
      read: (pieces) => this.#read(pieces, {}),
    });
  }

  /** Ends the download and the workers. Whatever is awaited fails with the code `closed`. */
  close(): void {
    this.#end(new McwcError('closed', 'the archive has been closed'));
  }

  /** @internal Bytes of the largest wasm memory that decoded something. */
  get memoryBytes(): number {
    return this.#pool.memoryBytes;
  }

  #end(reason: unknown): void {
    if (this.#closed) return;
    this.#closed = reason;
    const { source, header, options } = this.#parts;
    options.signal?.removeEventListener('abort', this.#onAbort!);
    source.close(reason);
    this.#pool.close(reason);
    header.free();
  }

  #throwIfClosed(): void {
    if (this.#closed) throw this.#closed;
  }

  #find(name: string): Description['tensors'][number] {
    this.#throwIfClosed();
    const index = this.#tensorIndex.get(name);
    if (index === undefined) throw new McwcError('argument', `the archive has no tensor named ${JSON.stringify(name)}`);
    return this.#parts.description.tensors[index];
  }

  #plan(file: number, offset: number, bytes: number): Piece[] {
    this.#throwIfClosed();
    try {
      return piecesOf(this.#parts.header.plan(file, offset, bytes));
    } catch (error) {
      throw McwcError.from(error);
    }
  }

  /** The pieces, with those of a frame that the GPU can take put together. */
  #gpuPieces(pieces: Piece[], file: number, offset: number): Piece[] {
    if (!this.#gpu) return pieces;
    const { frames, tensors } = this.#parts.description;
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
        const tensor = tensors.find((tensor) => tensor.frame === frame && tensor.file === file && holds(tensor))!;
        const end = tensor.offset + tensor.bytes;
        merged.push({ frame, chunk: -1, decoded: tensor.bytes, skip: offset - tensor.offset, bytes: piece.bytes, parts: [piece], end });
      }
      offset += piece.bytes;
    }
    return merged;
  }

  /** A frame's tensor on the GPU; undefined if it has to be decoded on the CPU. */
  async #reconstruct(frame: number, bytes: number, signal?: AbortSignal): Promise<GPUBuffer | undefined> {
    const entry = this.#parts.description.frames[frame];
    if (!this.#gpu || !entry?.levelBits) return undefined;
    const side = entry.sideChunk < 0 ? undefined : await this.#verified(entry.sideChunk);
    const { levels, levelBits } = await this.#levels(frame, bytes, signal);
    this.#throwIfClosed();
    try {
      return await this.#gpu?.reconstruct(this.#parts.header, frame, side, levels, levelBits);
    } catch (error) {
      const { code, message } = McwcError.from(error, 'gpu');
      if (code === 'gpu') this.#leaveGpu(message);
      if (code === 'gpu' || code === 'unsupported') return undefined;
      throw error;
    }
  }

  #leaveGpu(reason: string): void {
    this.#gpu = undefined;
    this.#backendReason = reason;
  }

  /** The levels of a frame, packed in as few bits as they need. */
  async #levels(frame: number, bytes: number, signal?: AbortSignal): Promise<{ levels: Uint8Array; levelBits: number }> {
    const { frames, tensors } = this.#parts.description;
    const { dtype } = tensors.find((tensor) => tensor.frame === frame)!;
    for (let { levelBits } = frames[frame]; ; levelBits *= 2) {
      const levelBytes = (bytes / bytesPerElement(dtype)) * (levelBits / 8);
      const steps = (held: Held) => levelStepsOf(frame, levelBits, frames, held);
      try {
        return { levels: new Uint8Array(await this.#run({ bytes: levelBytes, steps }, signal)), levelBits };
      } catch (error) {
        if ((error as McwcError).code !== 'limit-exceeded' || levelBits === 32) throw error;
      }
    }
  }

  /** The payload of a chunk, for use on this thread. */
  async #verified(chunk: number): Promise<Uint8Array> {
    const payload = new Uint8Array(this.#chunks[2 * chunk + 1]);
    await this.#parts.source.read(this.#chunks[2 * chunk], payload);
    this.#throwIfClosed();
    try {
      this.#parts.header.verifyPayload(chunk, payload);
    } catch (error) {
      throw McwcError.from(error);
    }
    return payload;
  }

  /** What the pieces decode to, one after another. */
  async #read(pieces: Piece[], options: TensorOptions): Promise<ArrayBuffer> {
    if (!pieces.some(({ parts }) => parts)) return this.#decode(pieces, options);
    const { signal, buffer } = options;
    const bytes = pieces.reduce((sum, piece) => sum + piece.bytes, 0);
    const whole = pieces.length === 1 && !buffer;
    const out = whole ? undefined : new Uint8Array(buffer ? adopt(buffer) : new ArrayBuffer(bytes));
    let at = 0;
    for (const piece of pieces) {
      const decoded = await this.#readPiece(piece, signal);
      if (!out) return decoded.byteOffset === 0 ? decoded.buffer : decoded.slice().buffer;
      out.set(decoded, at);
      at += piece.bytes;
    }
    return out!.buffer;
  }

  async #readPiece(piece: Piece, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const { parts = [piece], frame, skip, bytes, decoded } = piece;
    const reconstructed = piece.parts && (await this.#reconstruct(frame, decoded, signal));
    if (reconstructed) {
      try {
        const read = await this.#gpu?.read(reconstructed, decoded);
        if (read) return read.subarray(skip, skip + bytes);
      } catch (error) {
        this.#leaveGpu((error as Error).message);
      } finally {
        reconstructed.destroy();
      }
    }
    return new Uint8Array(await this.#decode(parts, { signal }), 0, bytes);
  }

  /** What the pieces decode to on the CPU. */
  async #decode(pieces: Piece[], { signal, buffer }: TensorOptions): Promise<ArrayBuffer> {
    const bytes = pieces.reduce((sum, piece) => sum + piece.bytes, 0);
    if (bytes === 0) return buffer ?? new ArrayBuffer(0);
    const { frames } = this.#parts.description;
    return this.#run({ bytes, buffer, steps: (held: Held) => stepsOf(pieces, frames, held) }, signal);
  }

  async #run(job: Job, signal: AbortSignal | undefined): Promise<ArrayBuffer> {
    // A worker that waits for its first byte would keep others from using it.
    const [{ chunk }] = job.steps({ frame: -1, rawChunk: -1 });
    const end = this.#chunks[2 * chunk] + this.#chunks[2 * chunk + 1];
    await unlessAborted(this.#parts.source.available(end), signal);
    return this.#pool.run(job, signal);
  }

  /** Collects the payloads of steps; neighbouring chunks in one go. */
  async #gather(steps: Step[], buffer?: ArrayBuffer): Promise<Gathered> {
    const lengths = steps.map(({ chunk }) => (chunk < 0 ? 0 : this.#chunks[2 * chunk + 1]));
    const total = lengths.reduce((sum, length) => sum + length, 0);
    const payloads = new Uint8Array(buffer && buffer.byteLength >= total ? buffer : new ArrayBuffer(total), 0, total);
    for (let index = 0, at = 0; index < steps.length; ) {
      const { chunk } = steps[index];
      let length = lengths[index++];
      if (chunk < 0) continue;
      for (let next = chunk + 1; steps[index]?.chunk === next; next++) length += lengths[index++];
      await this.#parts.source.read(this.#chunks[2 * chunk], payloads.subarray(at, at + length));
      at += length;
    }
    return { steps, payloads, lengths };
  }
}

/** A file of the archive, exactly as long as it was. */
export class ArchiveFile {
  readonly name: string;
  /** Length in bytes. */
  readonly size: number;
  #reader: FileReader;

  /** @internal */
  constructor({ name, bytes }: FileInfo, reader: FileReader) {
    this.name = name;
    this.size = bytes;
    this.#reader = reader;
  }

  /** The bytes from `start` up to, not including, `end`. */
  async bytes(start = 0, end = this.size): Promise<Uint8Array<ArrayBuffer>> {
    return new Uint8Array(await this.#reader.read(this.#plan(start, end)), 0, end - start);
  }

  async blob(start = 0, end = this.size): Promise<Blob> {
    return new Response(this.stream(start, end)).blob();
  }

  /** Decodes as it is read, and not much further. */
  stream(start = 0, end = this.size): ReadableStream<Uint8Array<ArrayBuffer>> {
    const parts = partsOf(this.#plan(start, end));
    const ahead: Promise<ArrayBuffer>[] = [];
    const pull = async (controller: ReadableByteStreamController) => {
      while (ahead.length <= STREAM_AHEAD) {
        const { value: pieces } = parts.next();
        if (!pieces) break;
        const decoded = this.#reader.read(pieces);
        decoded.catch(() => {});
        ahead.push(decoded);
      }
      const next = ahead.shift();
      if (next) return controller.enqueue(new Uint8Array(await next));
      controller.close();
      // A reader that brought its own memory waits for an answer even at the end.
      controller.byobRequest?.respond(0);
    };
    return new ReadableStream({ type: 'bytes', pull }, { highWaterMark: 0 });
  }

  #plan(start: number, end: number): Piece[] {
    if (!(0 <= start && start <= end && end <= this.size)) {
      throw new McwcError('argument', `${this.name} has no bytes ${start} to ${end}, only ${this.size}`);
    }
    return this.#reader.plan(start, end - start);
  }
}

interface FileReader {
  plan(start: number, bytes: number): Piece[];
  read(pieces: Piece[]): Promise<ArrayBuffer>;
}

function* partsOf(pieces: Piece[]): Generator<Piece[]> {
  let part: Piece[] = [];
  let bytes = 0;
  for (const piece of pieces) {
    if (part.length > 0 && bytes + piece.bytes > STREAM_BYTES) {
      yield part;
      part = [];
      bytes = 0;
    }
    part.push(piece);
    bytes += piece.bytes;
  }
  if (part.length > 0) yield part;
}
