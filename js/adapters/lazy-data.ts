// Extents of an archive -> objects that a runtime takes for external data files, of which only what it asks for is decoded.
import type { Archive } from '../archive.js';
import type { ArchiveFile, Prepared } from '../file.js';
import { McwcError } from '../index.js';
import type { ByteArray } from '../types.js';
import type { Extent } from './onnx.js';

/** How a runtime reads external data: of an array, when it has to be there at once, or of a blob, when it can wait. */
export type Access = 'array' | 'blob';

interface Entry extends Extent {
  /** Decoded, until it has been given out. */
  decoded?: ByteArray;
  /** Decodes it at once. */
  decode?: Prepared;
}

export class LazyData {
  /** What went wrong while the runtime was reading, which may say so in words of its own. */
  error: unknown;
  /** Whether it asked for something else than its model says. */
  surprised = false;
  #entries: Map<string, Entry>;
  /** Memory for one extent after another. */
  #scratch: ByteArray | undefined;

  constructor(
    private readonly archive: Archive,
    extents: Extent[],
  ) {
    this.#entries = new Map(extents.map((extent) => [keyOf(extent), { ...extent }]));
  }

  /** Decodes the first that many bytes together take, on workers. */
  async decodeAhead(bytes: number): Promise<void> {
    let ahead = 0;
    const first = [...this.#entries.values()].filter(({ start, end }) => (ahead += end - start) <= bytes);
    await Promise.all(first.map(async (entry) => (entry.decoded = await this.#file(entry).bytes(entry.start, entry.end))));
  }

  /** Resolves when everything can be decoded at once. */
  async prepare(): Promise<void> {
    const entries = [...this.#entries.values()];
    await Promise.all(entries.map(async (entry) => (entry.decode = await this.#file(entry).prepare(entry.start, entry.end))));
  }

  /** A file for this kind of access. */
  file(name: string, access: Access): Uint8Array | Blob {
    const { size } = this.archive.file(name);
    if (access === 'array') return arrayOf(size, (start, end) => this.#now({ file: name, start, end }));
    return blobOf(size, (start, end) => this.#stream({ file: name, start, end }));
  }

  #file({ file }: Extent): ArchiveFile {
    return this.archive.file(file);
  }

  #now(extent: Extent): Uint8Array {
    try {
      const { decoded, decode } = this.#take(extent);
      if (decoded) return decoded;
      const largest = () => Math.max(...Array.from(this.#entries.values(), ({ start, end }) => end - start));
      this.#scratch ??= new Uint8Array(largest());
      decode!(this.#scratch);
      return this.#scratch.subarray(0, extent.end - extent.start);
    } catch (error) {
      this.error = McwcError.from(error);
      throw error;
    }
  }

  #stream(extent: Extent): ReadableStream<Uint8Array> {
    const { decoded } = this.#take(extent);
    if (decoded) return streamOf(decoded);
    return this.#file(extent).stream(extent.start, extent.end);
  }

  /** Decoded bytes are given out once, so that they are not in memory twice. */
  #take(extent: Extent): Entry {
    const entry = this.#entries.get(keyOf(extent));
    if (!entry) {
      this.surprised = true;
      throw new McwcError('argument', `bytes ${extent.start} to ${extent.end} of ${extent.file} are no tensor of the model`);
    }
    const taken = { ...entry };
    entry.decoded = undefined;
    return taken;
  }
}

/** What has the length of an array and, asked for a part of itself, decodes it. */
export function arrayOf(bytes: number, read: (start: number, end: number) => Uint8Array): Uint8Array {
  return Object.defineProperties(new Uint8Array(), { byteLength: { value: bytes }, subarray: { value: read } });
}

/** The same of a blob. */
export function blobOf(bytes: number, read: (start: number, end: number) => ReadableStream<Uint8Array>): Blob {
  const slice = (start: number, end: number) => ({ stream: () => read(start, end) });
  return Object.defineProperties(new Blob(), { size: { value: bytes }, slice: { value: slice } });
}

function streamOf(bytes: ByteArray): ReadableStream<Uint8Array> {
  const start = (controller: ReadableByteStreamController) => {
    controller.enqueue(bytes);
    controller.close();
  };
  return new ReadableStream({ type: 'bytes', start });
}

function keyOf({ file, start, end }: Extent): string {
  return `${file} ${start} ${end}`;
}
