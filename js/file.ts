// A file of an archive, in whatever portions it is asked for.
import { McwcError } from './errors.js';
import type { Piece } from './steps.js';
import type { ByteArray, FileInfo } from './types.js';

/** Decoded bytes that a stream gives at once, about. */
const STREAM_BYTES = 2 << 20;
/** Parts of a stream that are decoded ahead of its reader, so that two workers can be busy. */
const STREAM_AHEAD = 1;

/** What the file needs of its archive. */
interface FileReader {
  plan(start: number, bytes: number): Piece[];
  read(pieces: Piece[]): Promise<ArrayBuffer>;
  prepare(pieces: Piece[]): Promise<Prepared>;
}

/** Decodes to the front of `target`, on this thread, before it returns. */
export type Prepared = (target: ByteArray) => void;

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
  async bytes(start = 0, end = this.size): Promise<ByteArray> {
    return new Uint8Array(await this.#reader.read(this.#plan(start, end)), 0, end - start);
  }

  /** The bytes of several ranges, one after another, decoded in one go. */
  async parts(ranges: readonly (readonly [start: number, end: number])[]): Promise<ByteArray> {
    return new Uint8Array(await this.#reader.read(ranges.flatMap(([start, end]) => this.#plan(start, end))));
  }

  /**
   * Waits for the compressed bytes of a range, verifies them, and gives a function that decodes them where nothing can be
   * waited for.
   */
  async prepare(start = 0, end = this.size): Promise<Prepared> {
    return this.#reader.prepare(this.#plan(start, end));
  }

  async blob(start = 0, end = this.size): Promise<Blob> {
    return new Response(this.stream(start, end)).blob();
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

  /** Decodes as it is read, and not much further. */
  stream(start = 0, end = this.size): ReadableStream<ByteArray> {
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

function typeOf(name: string): string {
  if (name.endsWith('.json')) return 'application/json';
  return name.endsWith('.txt') ? 'text/plain; charset=utf-8' : 'application/octet-stream';
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
