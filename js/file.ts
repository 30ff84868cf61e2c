// A file of an archive, in whatever portions it is asked for.
import { McwcError } from './errors.js';
import { inTurn } from './in-turn.js';
import type { Piece } from './steps.js';
import { streamOf } from './stream.js';
import type { ByteArray, FileInfo } from './types.js';

/** Decoded bytes that a stream gives at once, about, and of which it has three in memory. */
const STREAM_BYTES = 2 << 20;

/** What the file needs of its archive. */
interface FileReader {
  plan(start: number, bytes: number): Piece[];
  /** What the parts decode to, one after another. */
  read(parts: Part[], buffer?: ArrayBuffer): Promise<ArrayBuffer>;
  prepare(part: Part): Promise<Prepared>;
}

/** Decodes to the front of `target`, on this thread, before it returns. */
export type Prepared = (target: ByteArray) => void;

/** A file of the archive, exactly as long as it was. */
export class ArchiveFile {
  readonly name: string;
  /** Length in bytes. */
  readonly size: number;
  #reader: FileReader;
  /** Memory of parts that are done with. */
  #spare: ArrayBuffer[] = [];

  /** @internal */
  constructor({ name, bytes }: FileInfo, reader: FileReader) {
    this.name = name;
    this.size = bytes;
    this.#reader = reader;
  }

  /** The bytes from `start` up to, not including, `end`. */
  async bytes(start = 0, end = this.size): Promise<ByteArray> {
    return new Uint8Array(await this.#reader.read([this.#plan(start, end)]), 0, end - start);
  }

  /** The bytes of several ranges, one after another, decoded in one go. */
  async parts(ranges: readonly (readonly [start: number, end: number])[]): Promise<ByteArray> {
    return new Uint8Array(await this.#reader.read(ranges.map(([start, end]) => this.#plan(start, end))));
  }

  /**
   * Waits for the compressed bytes of a range, verifies them, and gives a function that decodes them where nothing can be
   * waited for, even when the archive has been closed.
   */
  async prepare(start = 0, end = this.size): Promise<Prepared> {
    return this.#reader.prepare(this.#plan(start, end));
  }

  async blob(start = 0, end = this.size): Promise<Blob> {
    return new Response(this.stream(start, end)).blob();
  }

  /** Fills `target` with the bytes from `start` on. Takes a few megabytes of other memory, however long it is. */
  async read(target: Uint8Array, start = 0): Promise<void> {
    let at = 0;
    for await (const part of this.#parts(start, start + target.length)) {
      target.set(part, at);
      at += part.length;
    }
  }

  /** The whole file as text, in UTF-8. */
  async text(): Promise<string> {
    return this.response().text();
  }

  async json(): Promise<unknown> {
    return this.response().json();
  }

  /** The whole file as the answer of a server, with its length and type. */
  response(): Response {
    const headers = { 'content-length': String(this.size), 'content-type': typeOf(this.name) };
    return new Response(this.stream(), { headers });
  }

  /**
   * Decodes as it is read, and not much further. Readers that bring their own memory are given no other; to others, a part may come in
   * memory that is longer.
   */
  stream(start = 0, end = this.size): ReadableStream<ByteArray> {
    return streamOf(this.#parts(start, end));
  }

  /** Each is done with when the next is asked for, unless its memory has gone elsewhere. */
  #parts(start: number, end: number): AsyncGenerator<ByteArray, void> {
    const tasks = partsOf(this.#plan(start, end)).map((part) => {
      const { bytes } = part;
      return { bytes, run: async (buffer?: ArrayBuffer) => new Uint8Array(await this.#reader.read([part], buffer), 0, bytes) };
    });
    return inTurn(tasks, ({ buffer }) => buffer, this.#spare);
  }

  #plan(start: number, end: number): Part {
    if (!(0 <= start && start <= end && end <= this.size && Number.isInteger(start + end))) {
      throw new McwcError('argument', `${this.name} has no bytes ${start} to ${end}, only ${this.size}`);
    }
    const bytes = end - start;
    return { start, bytes, pieces: this.#reader.plan(start, bytes) };
  }
}

function typeOf(name: string): string {
  if (name.endsWith('.json')) return 'application/json';
  return name.endsWith('.txt') ? 'text/plain; charset=utf-8' : 'application/octet-stream';
}

/** Pieces of a file, from `start` on. */
interface Part {
  start: number;
  bytes: number;
  pieces: Piece[];
}

function partsOf({ start, pieces }: Part): Part[] {
  const parts: Part[] = [];
  for (const piece of pieces) {
    const { bytes } = piece;
    const last = parts.at(-1);
    if (!last || last.bytes + bytes > STREAM_BYTES) {
      parts.push({ start, bytes, pieces: [piece] });
    } else {
      last.pieces.push(piece);
      last.bytes += bytes;
    }
    start += bytes;
  }
  return parts;
}
