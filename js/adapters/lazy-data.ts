// Extents of an archive -> objects that a runtime takes for external data files, of which only what it asks for is decoded.
import type { Archive } from '../archive.js';
import type { ArchiveFile, Prepared } from '../file.js';
import { McwcError } from '../index.js';
import { streamOf } from '../stream.js';
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
  #entries: Map<string, Entry>;
  #files = new Map<string, ArchiveFile>();
  /** What the runtime was given last. */
  #given: ByteArray | undefined;

  constructor(
    private readonly archive: Archive,
    extents: Extent[],
  ) {
    this.#entries = new Map(extents.map((extent) => [keyOf(extent), { ...extent }]));
  }

  /** Decodes the smallest that take that many bytes together, on workers: the memory of large ones would be taken for long. */
  async decodeAhead(bytes: number): Promise<void> {
    let ahead = 0;
    const ascending = [...this.#entries.values()].sort((a, b) => a.end - a.start - (b.end - b.start));
    const smallest = ascending.filter(({ start, end }) => (ahead += end - start) <= bytes);
    await Promise.all(smallest.map(async (entry) => (entry.decoded = await this.#file(entry).bytes(entry.start, entry.end))));
  }

  /** Resolves when everything can be decoded at once. */
  async prepare(): Promise<void> {
    const entries = [...this.#entries.values()];
    await Promise.all(entries.map(async (entry) => (entry.decode = await this.#file(entry).prepare(entry.start, entry.end))));
  }

  /** A file of that many bytes, for this kind of access. */
  file(name: string, size: number, access: Access): Uint8Array | Blob {
    if (access === 'array') return arrayOf(size, (start, end) => this.#now({ file: name, start, end }));
    return blobOf(size, (start, end) => this.#stream({ file: name, start, end }));
  }

  /** One for all extents, so that they use the same memory. */
  #file({ file: name }: Extent): ArchiveFile {
    const file = this.#files.get(name) ?? this.archive.file(name);
    this.#files.set(name, file);
    return file;
  }

  #now(extent: Extent): Uint8Array {
    try {
      const { decoded, decode } = this.#take(extent);
      // What was given before has been copied.
      if (this.#given) free(this.#given);
      this.#given = decoded ?? new Uint8Array(extent.end - extent.start);
      if (!decoded) decode!(this.#given);
      return this.#given;
    } catch (error) {
      this.error = McwcError.from(error);
      throw error;
    }
  }

  #stream(extent: Extent): ReadableStream<Uint8Array> {
    const { decoded } = this.#take(extent);
    if (!decoded) return this.#file(extent).stream(extent.start, extent.end);
    return streamOf(once(decoded));
  }

  /** Decoded bytes are given out once, so that they are not in memory twice. */
  #take(extent: Extent): Entry {
    const entry = this.#entries.get(keyOf(extent));
    if (!entry) throw new McwcError('argument', `bytes ${extent.start} to ${extent.end} of ${extent.file} are no tensor of the model`);
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

async function* once(bytes: ByteArray): AsyncGenerator<ByteArray, void> {
  yield bytes;
  free(bytes);
}

/** At once, rather than when garbage is collected; unless whoever read it has taken it along. */
function free({ buffer }: ByteArray): void {
  if (buffer.byteLength > 0) (buffer as { transfer?(bytes: number): ArrayBuffer }).transfer?.(0);
}

function keyOf({ file, start, end }: Extent): string {
  return `${file} ${start} ${end}`;
}
