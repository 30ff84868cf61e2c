// A folder in memory: Blobs and bytes that are read by range, and files that wasm writes, among them those that have lost their name.
import { wasi } from '@bjorn3/browser_wasi_shim';
import { Descriptor, FolderDescriptor, SeekableDescriptor, Stat, SystemError } from './descriptor.js';

/** Less is not worth asking the browser for. */
const WINDOW_BYTES = 2 ** 20;
const PIECE_BYTES = 2 ** 20;

/** What is in a file. */
export abstract class Content {
  abstract readonly size: number;
  abstract read(target: Uint8Array, position: number): number;
  write(_bytes: Uint8Array, _position: number): void {
    throw new SystemError('EROFS');
  }
  clear(): void {
    throw new SystemError('EROFS');
  }
}

class Bytes extends Content {
  constructor(private readonly bytes: Uint8Array) {
    super();
  }

  get size(): number {
    return this.bytes.length;
  }

  read(target: Uint8Array, position: number): number {
    const found = this.bytes.subarray(position, position + target.length);
    target.set(found);
    return found.length;
  }
}

/** Read at once, as browsers allow in workers. Small reads next to each other are one. */
class BlobContent extends Content {
  readonly #reader = new FileReaderSync();
  #window = new Uint8Array();
  #start = 0;

  constructor(private readonly blob: Blob) {
    super();
  }

  get size(): number {
    return this.blob.size;
  }

  read(target: Uint8Array, position: number): number {
    const end = Math.min(position + target.length, this.size);
    if (position >= end) return 0;
    if (target.length >= WINDOW_BYTES) {
      target.set(this.#load(position, end));
      return end - position;
    }
    if (position < this.#start || end > this.#start + this.#window.length) {
      this.#window = this.#load(position, position + WINDOW_BYTES);
      this.#start = position;
    }
    target.set(this.#window.subarray(position - this.#start, end - this.#start));
    return end - position;
  }

  #load(start: number, end: number): Uint8Array<ArrayBuffer> {
    try {
      return new Uint8Array(this.#reader.readAsArrayBuffer(this.blob.slice(start, end)));
    } catch {
      // The file behind it has changed or gone.
      throw new SystemError('EIO');
    }
  }
}

/** Grows in pieces, so that nothing is copied when it does. */
export class Pieces extends Content {
  #pieces: Uint8Array<ArrayBuffer>[] = [];
  size = 0;

  read(target: Uint8Array, position: number): number {
    const end = Math.min(position + target.length, this.size);
    for (let at = position; at < end; ) {
      const within = at % PIECE_BYTES;
      const found = this.#pieces[(at - within) / PIECE_BYTES].subarray(within, within + end - at);
      target.set(found, at - position);
      at += found.length;
    }
    return Math.max(0, end - position);
  }

  override write(bytes: Uint8Array, position: number): void {
    const end = position + bytes.length;
    while (this.#pieces.length * PIECE_BYTES < end) this.#pieces.push(new Uint8Array(PIECE_BYTES));
    for (let at = position; at < end; ) {
      const within = at % PIECE_BYTES;
      const part = bytes.subarray(at - position, at - position + PIECE_BYTES - within);
      this.#pieces[(at - within) / PIECE_BYTES].set(part, within);
      at += part.length;
    }
    this.size = Math.max(this.size, end);
  }

  override clear(): void {
    this.#pieces = [];
    this.size = 0;
  }

  /** All of it, piece by piece. */
  take(): Uint8Array<ArrayBuffer>[] {
    const last = Math.floor(this.size / PIECE_BYTES);
    return this.#pieces.map((piece, index) => (index === last ? piece.slice(0, this.size % PIECE_BYTES) : piece));
  }
}

export function contentOf(data: Blob | Uint8Array): Content {
  return data instanceof Uint8Array ? new Bytes(data) : new BlobContent(data);
}

class OpenContent extends SeekableDescriptor {
  readonly filetype = wasi.FILETYPE_REGULAR_FILE;

  constructor(private readonly content: Content) {
    super();
  }

  stat(): Stat {
    return statOf(this.content);
  }

  readAt(target: Uint8Array, position: number): number {
    return this.content.read(target, position);
  }

  writeAt(bytes: Uint8Array, position: number): number {
    this.content.write(bytes, position);
    return bytes.length;
  }
}

function statOf(content: Content): Stat {
  return new Stat(wasi.FILETYPE_REGULAR_FILE, BigInt(content.size));
}

/** Its files by their paths. A path that leads to some is a folder. */
export class MemoryFolder extends FolderDescriptor {
  constructor(
    private readonly files: Map<string, Content>,
    private readonly prefix = '',
    name?: string,
  ) {
    super(name);
  }

  stat(): Stat {
    return new Stat(wasi.FILETYPE_DIRECTORY, 0n);
  }

  list(): [string, number][] {
    const found = new Map<string, number>();
    for (const path of this.files.keys()) {
      if (!path.startsWith(this.prefix)) continue;
      const [name, ...below] = path.slice(this.prefix.length).split('/');
      found.set(name, below.length > 0 ? wasi.FILETYPE_DIRECTORY : wasi.FILETYPE_REGULAR_FILE);
    }
    return [...found];
  }

  override path_filestat_get(_flags: number, path: string) {
    const full = this.#resolve(path);
    const content = this.files.get(full);
    if (!content && !this.#isFolder(full)) throw new SystemError('ENOENT');
    return { ret: wasi.ERRNO_SUCCESS, filestat: content ? statOf(content) : this.stat() };
  }

  override path_open(_dirflags: number, path: string, flags: number) {
    return { ret: wasi.ERRNO_SUCCESS, fd_obj: this.#open(this.#resolve(path), flags) };
  }

  #open(path: string, flags: number): Descriptor {
    let content = this.files.get(path);
    if (flags & wasi.OFLAGS_EXCL && (content || this.#isFolder(path))) throw new SystemError('EEXIST');
    if (!content && this.#isFolder(path)) return new MemoryFolder(this.files, path && `${path}/`);
    if (content && flags & wasi.OFLAGS_DIRECTORY) throw new SystemError('ENOTDIR');
    if (!content) {
      if (!(flags & wasi.OFLAGS_CREAT)) throw new SystemError('ENOENT');
      content = new Pieces();
      this.files.set(path, content);
    }
    if (flags & wasi.OFLAGS_TRUNC) content.clear();
    return new OpenContent(content);
  }

  override path_unlink_file(path: string): number {
    if (!this.files.delete(this.#resolve(path))) throw new SystemError('ENOENT');
    return wasi.ERRNO_SUCCESS;
  }

  override linkTo(path: string, folder: Descriptor, newPath: string): void {
    const content = this.files.get(this.#resolve(path));
    if (!content || !(folder instanceof MemoryFolder)) throw new SystemError(content ? 'EXDEV' : 'ENOENT');
    const target = folder.#resolve(newPath);
    if (this.files.has(target)) throw new SystemError('EEXIST');
    this.files.set(target, content);
  }

  override renameTo(path: string, folder: Descriptor, newPath: string): void {
    const from = this.#resolve(path);
    const content = this.files.get(from);
    if (!content || !(folder instanceof MemoryFolder)) throw new SystemError(content ? 'EXDEV' : 'ENOENT');
    this.files.delete(from);
    this.files.set(folder.#resolve(newPath), content);
  }

  #isFolder(path: string): boolean {
    return path === '' || FOLDERS.includes(path) || [...this.files.keys()].some((other) => other.startsWith(`${path}/`));
  }

  #resolve(path: string): string {
    const parts: string[] = [];
    for (const part of `${this.prefix}${path}`.split('/')) {
      if (part === '..') parts.pop();
      else if (part !== '' && part !== '.') parts.push(part);
    }
    return parts.join('/');
  }
}

/** Are there even if they are empty. */
export const FOLDERS = ['files', 'output'];
