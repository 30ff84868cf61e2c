// An open archive: its tensors and files, read in any order.
import { Chunks, type Link, type Place, arrival } from './chunks.js';
import type { Description } from './description.js';
import { dataOf } from './dtype.js';
import { McwcError } from './errors.js';
import { ArchiveFile, type Prepared } from './file.js';
import type { Acquired } from './backend.js';
import type { GpuReader } from './gpu-reader.js';
import { inTurn } from './in-turn.js';
import { Pool } from './pool/pool.js';
import type { Preparing } from './pool/inline.js';
import type { Coded, Job } from './pool/runner.js';
import { adopt, nextTurn, unlessAborted } from './platform.js';
import type { Bytes } from './source/segments.js';
import { type Held, type Piece, type Step, nothing, piecesOf, stepsOf } from './steps.js';
import type { ArchiveOptions, Backend, CacheBackend, FileInfo, FileOptions, GpuStats, GpuTensor, GpuTensorOptions, Tensor, TensorInfo, TensorOptions } from './types.js';
import type { Uses } from './uses.js';
import type { Wasm, WasmArchive } from './wasm.js';

interface Parts {
  wasm: Wasm;
  header: WasmArchive;
  description: Description;
  /** This archive, its base, the base of that. */
  chain: Link[];
  /** A base to close along with it. */
  base: Archive | undefined;
  workers: number;
  options: ArchiveOptions;
  readOnGpu: Acquired['readOnGpu'];
  backendReason: string;
  /** Bytes of the archive that have been decoded, to be added to. */
  counted: { decoded: number };
}

export class Archive {
  readonly tensors: readonly TensorInfo[];
  readonly files: readonly FileInfo[];
  readonly metadata: Readonly<Record<string, string>>;
  /** 32 hexadecimal digits that pin every byte; pass them to `open` to accept no other archive. */
  readonly integrity: string;
  /** Length of the archive. */
  readonly bytes: number;
  /** How many passes of refinement its tensors have at most, coarse to fine; 1 without refinement. */
  readonly passes: number;
  #parts: Parts;
  #chunks: Chunks;
  /** Of all chunks, one after another. */
  #pool: Pool;
  /** Places of tensors by name, the first of each, and by name in their files. */
  #tensorIndex: Map<string, number>;
  #fileIndex: Map<string, number>;
  #gpuReader: GpuReader | undefined;
  #uses: Uses | undefined;
  #coded: Coded;
  #preparing: Preparing | undefined;
  /** Chunks that have been decoded. */
  #decoded = new Set<number>();
  #backendReason: string;
  #closed: unknown;
  #onAbort: (() => void) | undefined;

  /** @internal */
  constructor(parts: Parts) {
    const { description, wasm, header, options, workers: limit } = parts;
    const { signal } = options;
    this.#parts = parts;
    this.#chunks = new Chunks(header.chunks(), parts.chain, parts.base ? parts.chain.length : 1);
    this.files = description.files;
    this.tensors = description.tensors.map(({ name, dtype, shape, bytes, file, offset }) => {
      return { name, dtype, shape, bytes, file: this.files[file].name, offset };
    });
    this.metadata = description.metadata;
    this.integrity = description.integrity;
    this.bytes = description.bytes;
    this.passes = description.tensors.reduce((passes, { frames }) => Math.max(passes, frames.length), 1);
    this.#tensorIndex = new Map(this.tensors.map(({ name }, index) => [name, index] as const).reverse());
    this.#fileIndex = new Map(this.tensors.map(({ name, file }, index) => [`${file}\n${name}`, index] as const).reverse());
    this.#backendReason = parts.backendReason;
    this.#coded = { wasm, heads: parts.chain.map(({ head }) => head), hashes: header.hashes(), chunks: this.#chunks };
    this.#pool = new Pool({
      ...this.#coded,
      limit,
      workerUrl: wasm.builtFor === 'cpu' ? options.workerUrl : options.gpuWorkerUrl,
      onInline: (reason) => (this.#backendReason += `; on this thread, because ${reason}`),
    });
    this.#gpuReader = parts.readOnGpu?.({
      header,
      memory: wasm.memory,
      description,
      chunks: this.#chunks,
      hashes: this.#coded.hashes,
      ask: (steps) => this.#ask(steps),
      arrival: (pieces) => this.#arrival(pieces),
      decode: (pieces, signal) => this.#decode(pieces, { signal }),
      count: (steps) => this.#count(steps),
      throwIfClosed: () => this.#throwIfClosed(),
      errorOf: (error) => McwcError.from(error),
      onLost: (reason) => (this.#backendReason = reason),
    });
    this.#onAbort = () => this.#end(signal?.reason);
    signal?.addEventListener('abort', this.#onAbort);
    if (options.onPass && !options.lazy) this.#tellPasses(options.onPass);
  }

  /** `webgpu` as long as there is a GPU that reconstructs weights, if not all of them. */
  get backend(): Backend {
    return this.#gpuReader?.gpu ? 'webgpu' : 'cpu';
  }

  /** Why it is that one, and what was measured. */
  get backendReason(): string {
    return this.#backendReason + (this.#gpuReader?.measured ?? '');
  }

  /** Where downloaded bytes are kept now. */
  get cache(): CacheBackend {
    return this.#bytes?.cache ?? 'memory';
  }

  /** Why there. */
  get cacheReason(): string {
    return this.#bytes?.cacheReason ?? 'nothing is to be kept';
  }

  /** Resolves to true as soon as the whole archive is kept for the next time, to false if it will not be. */
  get cached(): Promise<boolean> {
    return Promise.resolve(this.#bytes?.cached ?? false);
  }

  /** Resolves when the whole archive is here, rejects if it never will be. It fetches nothing: if `lazy`, that is up to the reader. */
  get downloaded(): Promise<void> {
    return this.#parts.chain[0].source.complete;
  }

  /** Resolves when the finest pass of everything is here, that of its base too; rejects if it never will be. */
  get refined(): Promise<void> {
    const refined = Promise.all(this.#parts.chain.map(({ source }) => source.complete)).then(() => {});
    // Whoever only looks at it is not to be told.
    refined.catch(() => {});
    return refined;
  }

  /**
   * The values of a tensor: unless a pass is asked for, at the finest one that is here, or the first that will be. Its name is
   * that in `tensors`, or its own in `file`.
   */
  async tensor(name: string, { file: model, signal, buffer, pass: wanted }: TensorOptions = {}): Promise<Tensor> {
    const tensor = this.#find(name, model);
    const { dtype, shape, bytes } = tensor;
    if (buffer && buffer.byteLength < bytes) {
      throw new McwcError('argument', `${name} takes ${bytes} bytes, the buffer has ${buffer.byteLength}`);
    }
    const pass = this.#passOf(tensor, wanted);
    const pieces = this.#merged(tensor, pass);
    const decoded = await this.#read(pieces, { signal, buffer });
    await this.#release(tensor, pass);
    return { name: tensor.name, dtype, shape: [...shape], pass, data: dataOf(dtype, decoded, bytes) } as Tensor;
  }

  /**
   * Tensors one after another, all unless names are given; while one is used, the next is decoded. `data` is valid until then: its
   * memory is used again, which takes a fraction of the time of new memory.
   */
  each(names?: Iterable<string>, options: Omit<TensorOptions, 'buffer'> = {}): AsyncGenerator<Tensor, void> {
    const tasks = Array.from(names ?? this.tensors.map(({ name }) => name), (name) => {
      const { bytes } = this.#find(name, options.file);
      return { bytes, run: (buffer?: ArrayBuffer) => this.tensor(name, { ...options, buffer }) };
    });
    return inTurn(tasks, ({ data }) => data.buffer);
  }

  /** A tensor in a buffer of the GPU's, which the caller destroys. Only with the backend `webgpu`. */
  async gpuTensor(name: string, options?: GpuTensorOptions): Promise<GpuTensor> {
    return (await this.gpuTensors([name], options))[0];
  }

  /** Several at once, which takes less time: all unless names are given. If one fails, none is left behind. */
  async gpuTensors(names?: Iterable<string>, { file, signal, pass: asked, dtype }: GpuTensorOptions = {}): Promise<GpuTensor[]> {
    const wanted = Array.from(names ?? this.tensors.map(({ name }) => name), (name) => {
      const tensor = this.#find(name, file);
      const pass = this.#passOf(tensor, asked);
      return { tensor, pass, plan: () => this.#plan(tensor, pass), release: () => this.#release(tensor, pass) };
    });
    if (!this.#gpuReader) throw new McwcError('gpu', `there is no GPU: ${this.#backendReason}`);
    return this.#gpuReader.tensors(wanted, dtype, signal);
  }

  /** Where the time went; undefined on the CPU. */
  get stats(): GpuStats | undefined {
    return this.#gpuReader?.stats;
  }

  /** A file, at the finest pass unless another is asked for. */
  file(name: string, { pass: wanted = 'final' }: FileOptions = {}): ArchiveFile {
    this.#throwIfClosed();
    const file = this.files.findIndex((file) => file.name === name);
    if (file < 0) throw new McwcError('argument', `the archive has no file named ${JSON.stringify(name)}`);
    const pass = this.#checked(wanted);
    return new ArchiveFile(this.files[file], {
      plan: (offset, bytes) => this.#merged({ file, offset, bytes }, pass),
      read: async (parts, buffer) => {
        const decoded = await this.#read(parts.flatMap(({ pieces }) => pieces), { buffer });
        for (const { start, bytes } of parts) await this.#release({ file, offset: start, bytes }, pass);
        return decoded;
      },
      prepare: ({ pieces }) => this.#prepare(pieces.flatMap((piece) => piece.parts ?? piece)),
    });
  }

  /** Whether `tensor` finds one of this name. */
  has(name: string, file?: string): boolean {
    return this.#indexOf(name, file) !== undefined;
  }

  /** What `tensors` says of the one that `tensor` finds. */
  get(name: string, file?: string): TensorInfo | undefined {
    return this.tensors[this.#indexOf(name, file) ?? -1];
  }

  [Symbol.iterator](): IterableIterator<TensorInfo> {
    return this.tensors[Symbol.iterator]();
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

  get #bytes(): Bytes | undefined {
    return this.#parts.chain[0].source.bytes;
  }

  #throwIfClosed(): void {
    if (this.#closed) throw this.#closed;
  }

  #find(name: string, file: string | undefined): Description['tensors'][number] {
    this.#throwIfClosed();
    const index = this.#indexOf(name, file);
    if (index === undefined) {
      const where = file === undefined ? '' : ` in ${JSON.stringify(file)}`;
      throw new McwcError('argument', `the archive has no tensor named ${JSON.stringify(name)}${where}`);
    }
    return this.#parts.description.tensors[index];
  }

  #indexOf(name: string, file: string | undefined): number | undefined {
    if (file === undefined) return this.#tensorIndex.get(name);
    // Names that several models share have their files' names before them.
    return this.#fileIndex.get(`${file}\n${name}`) ?? this.#tensorIndex.get(`${file}/${name}`);
  }

  #plan({ file, offset, bytes }: Range, pass: number): Piece[] {
    this.#throwIfClosed();
    try {
      return piecesOf(this.#parts.header.plan(file, offset, bytes, pass));
    } catch (error) {
      throw McwcError.from(error);
    }
  }

  /** Pieces that the GPU takes whole are put together. */
  #merged(range: Range, pass: number): Piece[] {
    const pieces = this.#plan(range, pass);
    return this.#gpuReader?.merged(pieces, range.file, range.offset) ?? pieces;
  }

  #checked(pass: number | 'final'): number {
    if (pass === 'final') return this.passes - 1;
    if (Number.isInteger(pass) && 0 <= pass && pass < this.passes) return pass;
    throw new McwcError('argument', `the archive has ${this.passes} passes, from 0, and no pass ${pass}`);
  }

  /** The pass of a range to decode, as the finest that has the same bytes. */
  #passOf(range: Range, wanted: number | 'final' | undefined): number {
    const last = this.passes - 1;
    let pass = wanted === undefined ? last : this.#checked(wanted);
    const isHere = (pass: number) => [...this.#chunksOf(range, pass)].every(({ source, offset, bytes }) => source.has(offset, bytes));
    if (wanted === undefined && !this.#parts.options.lazy) while (pass > 0 && !isHere(pass)) pass--;
    const frames = (pass: number) => this.#plan(range, pass).map(({ frame }) => frame).join();
    while (pass < last && frames(pass) === frames(pass + 1)) pass++;
    return pass;
  }

  async #tellPasses(onPass: (pass: number) => void): Promise<void> {
    // Whoever is told has the archive by then.
    await nextTurn();
    for (let pass = 0; pass < this.passes; pass++) {
      try {
        for (const [file, { bytes }] of this.files.entries()) await arrival(this.#chunksOf({ file, offset: 0, bytes }, pass));
      } catch {
        return;
      }
      onPass(pass);
    }
  }

  #chunksOf(range: Range, pass: number): Iterable<Place> {
    return this.#chunks.places(stepsOf(this.#plan(range, pass), this.#parts.description.frames, nothing()));
  }

  /** Lets go of the chunks that only these bytes still needed. */
  async #release(range: Range, pass: number): Promise<void> {
    const { description, options } = this.#parts;
    const { keep = !options.lazy } = options;
    if (keep || pass < this.passes - 1) return;
    const { Uses } = await import('./uses.js');
    if (this.#closed) return;
    this.#uses ??= new Uses(this.files.map(({ bytes }, file) => this.#plan({ file, offset: 0, bytes }, pass)), description.frames, this.#chunks);
    this.#uses.decoded(range.file, range.offset, this.#plan(range, pass));
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
      const { parts = [piece] } = piece;
      const read = piece.parts && (await this.#gpuReader!.read(piece, signal));
      const decoded = read ?? new Uint8Array(await this.#decode(parts, { signal }));
      if (!out) return decoded.byteOffset === 0 ? decoded.buffer : decoded.slice().buffer;
      out.set(decoded, at);
      at += piece.bytes;
    }
    return out!.buffer;
  }

  /** What the pieces decode to on the CPU. */
  async #decode(pieces: Piece[], { signal, buffer }: TensorOptions): Promise<ArrayBuffer> {
    const bytes = pieces.reduce((sum, piece) => sum + piece.bytes, 0);
    if (bytes === 0) return buffer ?? new ArrayBuffer(0);
    const { frames } = this.#parts.description;
    return this.#run({ bytes, buffer, steps: (held: Held) => stepsOf(pieces, frames, held) }, signal);
  }

  /** Resolves when the pieces' payloads are in memory and verified, with what decodes them on this thread. */
  async #prepare(pieces: Piece[]): Promise<Prepared> {
    const { Preparing } = await import('./pool/inline.js');
    const steps = [...stepsOf(pieces, this.#parts.description.frames, nothing())];
    const preparing = (this.#preparing ??= new Preparing(this.#coded));
    const decode = await this.#chunks.repaired(() => preparing.prepare(steps));
    this.#count(steps);
    return decode;
  }

  async #run(job: Job, signal: AbortSignal | undefined): Promise<ArrayBuffer> {
    const steps = [...job.steps(nothing())];
    this.#ask(steps);
    // A worker that waits for its first byte would keep others from using it.
    await unlessAborted(arrival(this.#chunks.places(firstOf(steps))), signal);
    const { byteLength } = job.buffer ?? new ArrayBuffer(0);
    const decoded = await this.#chunks.repaired(() => {
      // An attempt that failed took the buffer along.
      const isGone = job.buffer && job.buffer.byteLength < byteLength;
      return this.#pool.run(isGone ? { ...job, buffer: new ArrayBuffer(byteLength) } : job, signal);
    });
    this.#count(steps);
    return decoded;
  }

  /** Resolves when all that the pieces take is here. */
  #arrival(pieces: Piece[]): Promise<void> {
    const steps = [...stepsOf(pieces, this.#parts.description.frames, nothing())];
    this.#ask(steps);
    return arrival(this.#chunks.places(steps));
  }

  /** What is fetched only when it is asked for is asked for together. */
  #ask(steps: Step[]): void {
    if (this.#parts.options.lazy) for (const place of this.#chunks.places(steps)) arrival([place]).catch(() => {});
  }

  #count(steps: Step[]): void {
    const { chain, counted } = this.#parts;
    for (const { chunk } of steps) {
      if (chunk < 0 || this.#decoded.has(chunk)) continue;
      this.#decoded.add(chunk);
      const { source, bytes } = this.#chunks.place(chunk);
      if (source === chain[0].source) counted.decoded += bytes;
    }
  }
}

/** Bytes of a file. */
interface Range {
  file: number;
  offset: number;
  bytes: number;
}

/** Up to the first step that gives bytes. */
function* firstOf(steps: Iterable<Step>): Generator<Step> {
  for (const step of steps) {
    yield step;
    if (step.gives) return;
  }
}
