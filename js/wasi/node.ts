// Files, folders and streams of the operating system, in Node. Its errors have the system's codes.
import type * as Fs from 'node:fs';
import { wasi } from '@bjorn3/browser_wasi_shim';
import { isWindows } from '../encoder/protocol.js';
import type { CreatedFiles } from './created.js';
import { Descriptor, FolderDescriptor, SeekableDescriptor, Stat, SystemError } from './descriptor.js';

const BUSY_MS = 2;

/** What Node has, that the same script runs without in browsers. */
export interface System {
  fs: typeof Fs;
  isTerminal(fd: number): boolean;
  created: CreatedFiles;
}

function pathOutside(path: string): string {
  const [, drive, rest] = /^\/([A-Za-z]:)(?:\/(.*))?$/s.exec(path) ?? [];
  return drive && isWindows() ? `${drive}/${rest ?? ''}` : path;
}

type Kinds = Pick<
  Fs.Dirent,
  'isFile' | 'isDirectory' | 'isSymbolicLink' | 'isCharacterDevice' | 'isBlockDevice' | 'isSocket'
>;

function filetypeOf(kinds: Kinds): number {
  if (kinds.isFile()) return wasi.FILETYPE_REGULAR_FILE;
  if (kinds.isDirectory()) return wasi.FILETYPE_DIRECTORY;
  if (kinds.isSymbolicLink()) return wasi.FILETYPE_SYMBOLIC_LINK;
  if (kinds.isCharacterDevice()) return wasi.FILETYPE_CHARACTER_DEVICE;
  if (kinds.isBlockDevice()) return wasi.FILETYPE_BLOCK_DEVICE;
  return kinds.isSocket() ? wasi.FILETYPE_SOCKET_STREAM : wasi.FILETYPE_UNKNOWN;
}

function statOf(stats: Fs.BigIntStats, filetype = filetypeOf(stats)): Stat {
  const times = { atim: stats.atimeNs, mtim: stats.mtimeNs, ctim: stats.ctimeNs };
  return new Stat(filetype, stats.size, times, BigInt.asUintN(64, stats.ino), BigInt.asUintN(64, stats.dev));
}

class NodeFile extends SeekableDescriptor {
  readonly filetype: number;

  constructor(
    private readonly system: System,
    private readonly fd: number,
  ) {
    super();
    this.filetype = filetypeOf(system.fs.fstatSync(fd));
  }

  stat(): Stat {
    return statOf(this.system.fs.fstatSync(this.fd, { bigint: true }));
  }

  /** Pipes and devices have no positions. */
  #position(position: number): number | null {
    return this.filetype === wasi.FILETYPE_REGULAR_FILE ? position : null;
  }

  readAt(target: Uint8Array, position: number): number {
    return patiently(() => this.system.fs.readSync(this.fd, target, 0, target.length, this.#position(position)));
  }

  writeAt(bytes: Uint8Array, position: number): number {
    return patiently(() => this.system.fs.writeSync(this.fd, bytes, 0, bytes.length, this.#position(position)));
  }

  override fd_sync(): number {
    this.system.fs.fsyncSync(this.fd);
    return wasi.ERRNO_SUCCESS;
  }

  override fd_close(): number {
    this.system.fs.closeSync(this.fd);
    return wasi.ERRNO_SUCCESS;
  }
}

/** Standard input, output and errors. */
export class NodeStream extends Descriptor {
  readonly filetype: number;

  constructor(
    private readonly system: System,
    private readonly fd: number,
  ) {
    super();
    this.filetype = this.#filetype();
  }

  #filetype(): number {
    if (this.system.isTerminal(this.fd)) return wasi.FILETYPE_CHARACTER_DEVICE;
    const filetype = filetypeOf(this.system.fs.fstatSync(this.fd));
    return filetype === wasi.FILETYPE_CHARACTER_DEVICE ? wasi.FILETYPE_UNKNOWN : filetype;
  }

  stat(): Stat {
    return statOf(this.system.fs.fstatSync(this.fd, { bigint: true }), this.filetype);
  }

  override readInto(target: Uint8Array): number {
    return patiently(() => this.system.fs.readSync(this.fd, target));
  }

  override writeFrom(bytes: Uint8Array): number {
    return patiently(() => this.system.fs.writeSync(this.fd, bytes));
  }
}

/** Streams that Node opened may have nothing, or no room, for the moment; the end is an error on Windows. */
function patiently(transfer: () => number): number {
  for (;;) {
    try {
      return transfer();
    } catch (error) {
      const { code } = error as { code?: string };
      if (code === 'EOF') return 0;
      if (code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, BUSY_MS);
    }
  }
}

export class NodeFolder extends FolderDescriptor {
  constructor(
    private readonly system: System,
    private readonly path: string,
    name?: string,
  ) {
    super(name);
  }

  #resolve(path: string): string {
    return pathOutside(`${this.path === '/' ? '' : this.path}/${path}`);
  }

  stat(): Stat {
    return statOf(this.system.fs.statSync(this.#resolve('.'), { bigint: true }));
  }

  list(): [string, number][] {
    const entries = this.system.fs.readdirSync(this.#resolve('.'), { withFileTypes: true });
    return entries.map((entry) => [entry.name, filetypeOf(entry)]);
  }

  override path_filestat_get(flags: number, path: string) {
    const { fs } = this.system;
    const stat = flags & 1 ? fs.statSync : fs.lstatSync;
    return { ret: wasi.ERRNO_SUCCESS, filestat: statOf(stat(this.#resolve(path), { bigint: true })) };
  }

  override path_open(dirflags: number, path: string, flags: number, rights: bigint, _inheriting: bigint, fdFlags: number) {
    const { fs, created } = this.system;
    const outside = this.#resolve(path);
    const stats = fs.statSync(outside, { throwIfNoEntry: false });
    if (stats?.isDirectory() && !(flags & wasi.OFLAGS_CREAT)) return opened(new NodeFolder(this.system, outside));
    if (stats && flags & wasi.OFLAGS_DIRECTORY) throw new SystemError('ENOTDIR');
    // Its bytes may never end.
    if ((stats?.isCharacterDevice() || stats?.isBlockDevice()) && !(rights & BigInt(wasi.RIGHTS_FD_WRITE))) throw new SystemError('ENODEV');
    const isNew = (flags & wasi.OFLAGS_CREAT) !== 0 && (flags & wasi.OFLAGS_EXCL) !== 0;
    if (isNew) created.add(outside);
    try {
      return opened(new NodeFile(this.system, fs.openSync(outside, openFlags(fs.constants, dirflags, flags, rights, fdFlags))));
    } catch (error) {
      if (isNew) created.delete(outside);
      throw error;
    }
  }

  override path_create_directory(path: string): number {
    this.system.fs.mkdirSync(this.#resolve(path));
    return wasi.ERRNO_SUCCESS;
  }

  override path_unlink_file(path: string): number {
    this.system.fs.unlinkSync(this.#resolve(path));
    this.system.created.delete(this.#resolve(path));
    return wasi.ERRNO_SUCCESS;
  }

  override readLink(path: string): string {
    return this.system.fs.readlinkSync(this.#resolve(path));
  }

  override linkTo(path: string, folder: Descriptor, newPath: string): void {
    if (!(folder instanceof NodeFolder)) throw new SystemError('EXDEV');
    this.system.fs.linkSync(this.#resolve(path), folder.#resolve(newPath));
  }

  override renameTo(path: string, folder: Descriptor, newPath: string): void {
    if (!(folder instanceof NodeFolder)) throw new SystemError('EXDEV');
    this.system.fs.renameSync(this.#resolve(path), folder.#resolve(newPath));
    this.system.created.delete(this.#resolve(path));
  }
}

function opened(descriptor: Descriptor) {
  return { ret: wasi.ERRNO_SUCCESS, fd_obj: descriptor };
}

function openFlags(system: typeof Fs.constants, dirflags: number, flags: number, rights: bigint, fdFlags: number): number {
  const has = (right: number) => (rights & BigInt(right)) !== 0n;
  const writes = has(wasi.RIGHTS_FD_WRITE);
  const access = writes ? (has(wasi.RIGHTS_FD_READ) ? system.O_RDWR : system.O_WRONLY) : system.O_RDONLY;
  const wanted: [unknown, number | undefined][] = [
    [flags & wasi.OFLAGS_CREAT, system.O_CREAT],
    [flags & wasi.OFLAGS_EXCL, system.O_EXCL],
    [flags & wasi.OFLAGS_TRUNC, system.O_TRUNC],
    [fdFlags & wasi.FDFLAGS_APPEND, system.O_APPEND],
    // What is not to be followed.
    [!(dirflags & 1), system.O_NOFOLLOW],
  ];
  return wanted.reduce((all, [want, flag = 0]) => (want ? all | flag : all), access);
}
