// What is open, for the shim that carries out WASI's calls. Bytes go straight between a descriptor and wasm's memory; what fails
// throws an error with a system's code, such as ENOENT, and the host makes WASI's number of it.
import { Fd, wasi } from '@bjorn3/browser_wasi_shim';

export class SystemError extends Error {
  constructor(readonly code: string) {
    super(code);
  }
}

const ALL_RIGHTS = 2n ** 30n - 1n;
/** What cannot be sought in is a terminal, if it is a character device. */
const TERMINAL_RIGHTS = ALL_RIGHTS & ~BigInt(wasi.RIGHTS_FD_SEEK | wasi.RIGHTS_FD_TELL);

/** Times are nanoseconds. */
export class Stat extends wasi.Filestat {
  constructor(filetype: number, size: bigint, times: { atim?: bigint; mtim?: bigint; ctim?: bigint } = {}, ino = 1n, dev = 1n) {
    super(ino, filetype, size);
    Object.assign(this, { nlink: 1n, dev, ...times });
  }

  /** The shim's own lets the times overlap with the size. */
  override write_bytes(view: DataView, at: number): void {
    view.setBigUint64(at, this.dev, true);
    view.setBigUint64(at + 8, this.ino, true);
    view.setUint8(at + 16, this.filetype);
    const numbers = [this.nlink, this.size, this.atim, this.mtim, this.ctim];
    for (const [index, number] of numbers.entries()) view.setBigUint64(at + 24 + 8 * index, number, true);
  }
}

/** One that can do nothing. */
export abstract class Descriptor extends Fd {
  abstract readonly filetype: number;

  abstract stat(): Stat;

  /** How many bytes it has read; 0 at the end. */
  readInto(_target: Uint8Array): number {
    throw new SystemError('EBADF');
  }

  /** How many bytes it has written. */
  writeFrom(_bytes: Uint8Array): number {
    throw new SystemError('EBADF');
  }

  linkTo(_path: string, _folder: Descriptor, _newPath: string): void {
    throw new SystemError('ENOTSUP');
  }

  renameTo(_path: string, _folder: Descriptor, _newPath: string): void {
    throw new SystemError('ENOTSUP');
  }

  readLink(_path: string): string {
    throw new SystemError('EINVAL');
  }

  override fd_filestat_get() {
    return { ret: wasi.ERRNO_SUCCESS, filestat: this.stat() };
  }

  override fd_fdstat_get() {
    const fdstat = new wasi.Fdstat(this.filetype, 0);
    const rights = this.filetype === wasi.FILETYPE_CHARACTER_DEVICE ? TERMINAL_RIGHTS : ALL_RIGHTS;
    Object.assign(fdstat, { fs_rights_base: rights, fs_rights_inherited: rights });
    return { ret: wasi.ERRNO_SUCCESS, fdstat };
  }
}

/** A file that is read and written where its position is. */
export abstract class SeekableDescriptor extends Descriptor {
  #position = 0;

  abstract readAt(target: Uint8Array, position: number): number;
  abstract writeAt(bytes: Uint8Array, position: number): number;

  override readInto(target: Uint8Array): number {
    const count = this.readAt(target, this.#position);
    this.#position += count;
    return count;
  }

  override writeFrom(bytes: Uint8Array): number {
    const count = this.writeAt(bytes, this.#position);
    this.#position += count;
    return count;
  }

  override fd_seek(offset: bigint, whence: number) {
    const from = { [wasi.WHENCE_CUR]: this.#position, [wasi.WHENCE_END]: Number(this.stat().size) }[whence] ?? 0;
    const position = from + Number(offset);
    if (position < 0) throw new SystemError('EINVAL');
    this.#position = position;
    return { ret: wasi.ERRNO_SUCCESS, offset: BigInt(position) };
  }
}

export abstract class FolderDescriptor extends Descriptor {
  readonly filetype = wasi.FILETYPE_DIRECTORY;
  #entries: [name: string, filetype: number][] = [];

  /** `name` if wasm finds it open when it starts, and so everything in it. */
  constructor(private readonly name?: string) {
    super();
  }

  abstract list(): [name: string, filetype: number][];

  override fd_prestat_get() {
    if (this.name === undefined) throw new SystemError('EBADF');
    return { ret: wasi.ERRNO_SUCCESS, prestat: wasi.Prestat.dir(this.name) };
  }

  override fd_readdir_single(cookie: bigint) {
    if (cookie === 0n) this.#entries = this.list();
    const entry = this.#entries[Number(cookie)];
    return { ret: wasi.ERRNO_SUCCESS, dirent: entry ? new wasi.Dirent(cookie + 1n, 1n, ...entry) : null };
  }
}
