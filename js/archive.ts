// An open archive: its tensors and files, read in any order.
import type { Gathered } from './decoder.js';
import { McwcError } from './errors.js';
import type { Gpu } from './gpu.js';
import { type Job, Pool } from './pool.js';
import { adopt, nextTurn, unlessAborted } from './platform.js';
import type { Source } from './source.js';
import { type Held, type Piece, type Step, levelStepsOf, nothing, piecesOf, stepsOf } from './steps.js';
import { bytesPerElement, dataOf } from './dtype.js';
import type {
  Backend,
  Description,
  FileInfo,
  FileOptions,
  GpuTensor,
  OpenOptions,
  Tensor,
  TensorInfo,
  TensorOptions,
} from './types.js';
import { type Wasm, type WasmArchive, load } from './wasm.js';

/** Decoded bytes that a stream gives at once, about. */
const STREAM_BYTES = 2 << 20;
/** Parts of a stream that are decoded ahead of its reader, so that two workers can be busy. */
const STREAM_AHEAD = 1;

/** The preamble and header of an archive, and all of its bytes. */
export interface Link {
  head: Uint8Array;
  source: Source;
}

interface Parts {
  wasm: Wasm;
  header: WasmArchive;
  description: Description;
  /** This archive, its base, the base of that. */
  chain: Link[];
  /** A base to close along with it. */
  base: Archive | undefined;
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
  /** How many layers of refinement its tensors have at most, coarse to fine; 1 without refinement. */
  readonly layers: number;
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
    this.layers = description.tensors.reduce((layers, { frames }) => Math.max(layers, frames.length), 1);
    this.#tensorIndex = new Map(description.tensors.map(({ name }, index) => [name, index]));
    this.#gpu = parts.gpu;
    this.#backendReason = parts.backendReason;
    this.#pool = new Pool({
      wasm,
      heads: parts.chain.map(({ head }) => head),
      limit,
      workerUrl: wasm.builtFor === 'cpu' ? options.workerUrl : options.gpuWorkerUrl,
      hashes: header.hashes(),
      gather: (steps, buffer) => this.#gather(steps, buffer),
      chunkBytes: (chunk) => this.#place(chunk).bytes,
      onInline: (reason) => (this.#backendReason += `; on this thread, because ${reason}`),
    });
    this.#onAbort = () => this.#end(signal?.reason);
    signal?.addEventListener('abort', this.#onAbort);
    if (options.onLayer) this.#tellLayers(options.onLayer);
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
    return this.#parts.chain[0].source.complete;
  }

  /** Resolves when the finest layer of everything is here, that of its base too; rejects if it never will be. */
  get refined(): Promise<void> {
    return Promise.all(this.#parts.chain.map(({ source }) => source.complete)).then(() => {});
  }

  /** The values of a tensor: unless a layer is asked for, at the finest one that is here, or the first that will be. */
  async tensor(name: string, { signal, buffer, layer: wanted }: TensorOptions = {}): Promise<Tensor> {
    const tensor = this.#find(name);
    const { dtype, shape, bytes, file, offset } = tensor;
    if (buffer && buffer.byteLength < bytes) {
      throw new McwcError('argument', `${name} takes ${bytes} bytes, the buffer has ${buffer.byteLength}`);
    }
    const layer = this.#layerOf(tensor, wanted);
    const pieces = this.#gpuPieces(this.#plan(tensor, layer), file, offset);
    const decoded = await this.#read(pieces, { signal, buffer });
    return { name, dtype, shape: [...shape], layer, data: dataOf(dtype, decoded, bytes) };
  }

  /** A tensor in a buffer of the GPU's, which the caller destroys. Only with the backend `webgpu`. */
  async gpuTensor(name: string, { signal, layer: wanted }: Omit<TensorOptions, 'buffer'> = {}): Promise<GpuTensor> {
    const tensor = this.#find(name);
    const { dtype, shape, bytes, frames } = tensor;
    const layer = this.#layerOf(tensor, wanted);
    const found = { dtype, shape: [...shape], bytes, layer };
    const reconstructed = await this.#reconstruct(frames[Math.min(layer, frames.length - 1)], bytes, signal);
    if (reconstructed) return { ...found, buffer: reconstructed };
    const decoded = await this.#decode(this.#plan(tensor, layer), { signal });
    if (!this.#gpu) throw new McwcError('gpu', `there is no GPU: ${this.#backendReason}`);
    return { ...found, buffer: this.#gpu.upload(new Uint8Array(decoded, 0, bytes)) };
  }

  /** A file, at the finest layer unless another is asked for. */
  file(name: string, { layer: wanted = 'final' }: FileOptions = {}): ArchiveFile {
    this.#throwIfClosed();
    const file = this.files.findIndex((file) => file.name === name);
    if (file < 0) throw new McwcError('argument', `the archive has no file named ${JSON.stringify(name)}`);
    const layer = this.#checked(wanted);
    return new ArchiveFile(this.files[file], {
      plan: (offset, bytes) => this.#gpuPieces(this.#plan({ file, offset, bytes }, layer), file, offset),
      read: (pieces) => this.#read(pieces, {}),
    });
  }

  /** Ends the download and the workers. Whatever is awaited fails with the code `closed`. */
  close(): void {
    this.#end(new McwcError('closed', 'the archive has been closed'));
  }

  /** @internal What a delta to this archive reads. */
  get chain(): Link[] {
    this.#throwIfClosed();
    return this.#parts.chain;
  }

  /** @internal Bytes of the largest wasm memory that decoded something. */
  get memoryBytes(): number {
    return this.#pool.memoryBytes;
  }

  #end(reason: unknown): void {
    if (this.#closed) return;
    this.#closed = reason;
    const { chain, base, header, options } = this.#parts;
    options.signal?.removeEventListener('abort', this.#onAbort!);
    chain[0].source.close(reason);
    this.#pool.close(reason);
    header.free();
    if (base) base.#end(reason);
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

  #plan({ file, offset, bytes }: Range, layer: number): Piece[] {
    this.#throwIfClosed();
    try {
      return piecesOf(this.#parts.header.plan(file, offset, bytes, layer));
    } catch (error) {
      throw McwcError.from(error);
    }
  }

  #checked(layer: number | 'final'): number {
    if (layer === 'final') return this.layers - 1;
    if (Number.isInteger(layer) && 0 <= layer && layer < this.layers) return layer;
    throw new McwcError('argument', `the archive has ${this.layers} layers, from 0, and no layer ${layer}`);
  }

  /** The layer of a range to decode, as the finest that has the same bytes. */
  #layerOf(range: Range, wanted: number | 'final' | undefined): number {
    const last = this.layers - 1;
    let layer = wanted === undefined ? last : this.#checked(wanted);
    const isHere = (layer: number) => [...this.#chunksOf(range, layer)].every(({ source, end }) => source.has(end));
    if (wanted === undefined) while (layer > 0 && !isHere(layer)) layer--;
    const frames = (layer: number) => this.#plan(range, layer).map(({ frame }) => frame).join();
    while (layer < last && frames(layer) === frames(layer + 1)) layer++;
    return layer;
  }

  async #tellLayers(onLayer: (layer: number) => void): Promise<void> {
    // Whoever is told has the archive by then.
    await nextTurn();
    for (let layer = 0; layer < this.layers; layer++) {
      try {
        for (const [file, { bytes }] of this.files.entries()) await arrival(this.#chunksOf({ file, offset: 0, bytes }, layer));
      } catch {
        return;
      }
      onLayer(layer);
    }
  }

  *#chunksOf(range: Range, layer: number): Generator<Place> {
    yield* this.#places(stepsOf(this.#plan(range, layer), this.#parts.description.frames, nothing()));
  }

  *#places(steps: Iterable<Step>): Generator<Place> {
    for (const { chunk } of steps) if (chunk >= 0) yield this.#place(chunk);
  }

  #place(chunk: number): Place {
    const [archive, offset, bytes] = this.#chunks.subarray(3 * chunk, 3 * chunk + 3);
    return { source: this.#parts.chain[archive].source, offset, bytes, end: offset + bytes };
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
        const tensor = tensors.find((tensor) => tensor.frames.includes(frame) && tensor.file === file && holds(tensor))!;
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
    const { dtype } = tensors.find((tensor) => tensor.frames.includes(frame))!;
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
    const { source, offset, bytes } = this.#place(chunk);
    const payload = new Uint8Array(bytes);
    await source.read(offset, payload);
    this.#throwIfClosed();
    const { header, wasm } = this.#parts;
    try {
      load(header, wasm.memory, payload);
      header.verify(chunk);
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
    await unlessAborted(arrival(this.#places(firstOf(job.steps(nothing())))), signal);
    return this.#pool.run(job, signal);
  }

  /** Collects the payloads of steps; neighbouring chunks in one go. */
  async #gather(steps: Step[], buffer?: ArrayBuffer): Promise<Gathered> {
    const lengths = steps.map(({ chunk }) => (chunk < 0 ? 0 : this.#place(chunk).bytes));
    const total = lengths.reduce((sum, length) => sum + length, 0);
    const payloads = new Uint8Array(buffer && buffer.byteLength >= total ? buffer : new ArrayBuffer(total), 0, total);
    for (let index = 0, at = 0; index < steps.length; ) {
      const { chunk } = steps[index];
      let length = lengths[index++];
      if (chunk < 0) continue;
      const { source, offset } = this.#place(chunk);
      const follows = (next: number) => steps[index]?.chunk === next && this.#place(next).source === source;
      for (let next = chunk + 1; follows(next); next++) length += lengths[index++];
      await source.read(offset, payloads.subarray(at, at + length));
      at += length;
    }
    return { steps, payloads, lengths };
  }
}

/** Bytes of a file. */
interface Range {
  file: number;
  offset: number;
  bytes: number;
}

/** Where a chunk lies. */
interface Place {
  source: Source;
  offset: number;
  bytes: number;
  end: number;
}

async function arrival(places: Iterable<Place>): Promise<void> {
  for (const { source, end } of places) await source.available(end);
}

/** Up to the first step that gives bytes. */
function* firstOf(steps: Iterable<Step>): Generator<Step> {
  for (const step of steps) {
    yield step;
    if (step.gives) return;
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
