// Extents of an archive -> objects that a runtime takes for external data files, of which only what it asks for is decoded.
import type { Archive } from '../archive.js';
import { McwcError } from '../errors.js';
import type { ByteArray } from '../types.js';
import type { Extent } from './onnx.js';

/** Bytes that are decoded on workers while the archive arrives, before the runtime asks for them. */
export const AHEAD_BYTES = 128 << 20;

/** How a runtime reads external data: of an array, when it has to be there at once, or of a blob, when it can wait. */
export type Access = 'array' | 'blob';

interface Entry extends Extent {
  /** Decoded, until it has been given out. */
  decoded?: ByteArray;
  /** Decodes it at once. */
  decode?: (target: ByteArray) => ByteArray;
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
    private readonly access: Access,
  ) {
    this.#entries = new Map(extents.map((extent) => [keyOf(extent), { ...extent }]));
  }

  /** Resolves when whatever cannot be waited for later is here. */
  async prepare(): Promise<void> {
    let ahead = 0;
    const preparing = Array.from(this.#entries.values(), async (entry) => {
      const { file, start, end } = entry;
      const source = this.archive.file(file);
      const isAhead = (ahead += end - start) <= AHEAD_BYTES;
      const [decode, decoded] = await Promise.all([
        this.access === 'array' ? source.prepare(start, end) : undefined,
        isAhead ? source.bytes(start, end) : undefined,
      ]);
      Object.assign(entry, { decode, decoded });
    });
    await Promise.all(preparing);
  }

  /** The file, as this kind of access wants it. */
  file(name: string): Uint8Array | Blob {
    const { size } = this.archive.file(name);
    if (this.access === 'array') return arrayOf(size, (start, end) => this.#now({ file: name, start, end }));
    return blobOf(size, (start, end) => this.#stream({ file: name, start, end }));
  }

  #now(extent: Extent): Uint8Array {
    try {
      const { decoded, decode } = this.#take(extent);
      if (decoded) return decoded;
      const largest = () => Math.max(...Array.from(this.#entries.values(), ({ start, end }) => end - start));
      this.#scratch ??= new Uint8Array(largest());
      return decode!(this.#scratch);
    } catch (error) {
      this.error = error;
      throw error;
    }
  }

  #stream(extent: Extent): ReadableStream<Uint8Array> {
    const { decoded } = this.#take(extent);
    if (decoded) return new Blob([decoded]).stream();
    return this.archive.file(extent.file).stream(extent.start, extent.end);
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

function keyOf({ file, start, end }: Extent): string {
  return `${file} ${start} ${end}`;
}
