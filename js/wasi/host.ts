// The command's wasm and what is open to it -> its exit status. The shim carries out the calls; here are those that it has wrong
// or would copy bytes for.
import { WASI, WASIProcExit, wasi } from '@bjorn3/browser_wasi_shim';
import type { Descriptor } from './descriptor.js';

type Call = (...values: any[]) => unknown;

export class Host extends WASI {
  constructor(args: string[], env: string[], descriptors: Descriptor[]) {
    // The shim tells of every call unless it is told not to.
    super(args, env, descriptors, { debug: false });
    const calls: Record<string, Call> = { ...this.wasiImport, ...this.#calls() };
    for (const [name, call] of Object.entries(calls)) this.wasiImport[name] = withErrorNumbers(call);
  }

  /** Runs the command to its end. A trap is thrown. */
  async run(module: WebAssembly.Module): Promise<number> {
    const imports = { wasi_snapshot_preview1: this.wasiImport as WebAssembly.ModuleImports };
    const { exports } = await WebAssembly.instantiate(module, imports);
    return this.start({ exports: exports as { memory: WebAssembly.Memory; _start(): unknown } });
  }

  get #view(): DataView {
    return new DataView(this.inst.exports.memory.buffer);
  }

  #bytes(at: number, length: number): Uint8Array {
    return new Uint8Array(this.inst.exports.memory.buffer, at, length);
  }

  #text(at: number, length: number): string {
    return new TextDecoder().decode(this.#bytes(at, length));
  }

  #open(fd: number): Descriptor {
    const descriptor = this.fds[fd];
    if (!descriptor) throw Object.assign(new Error('not open'), { code: 'EBADF' });
    return descriptor as Descriptor;
  }

  /** Those that are replaced. */
  #calls(): Record<string, Call> {
    return {
      args_sizes_get: (count: number, size: number) => {
        this.#view.setUint32(count, this.args.length, true);
        const lengths = this.args.map((arg) => new TextEncoder().encode(arg).length + 1);
        this.#view.setUint32(size, lengths.reduce((sum, length) => sum + length, 0), true);
      },
      fd_read: (fd: number, list: number, length: number, count: number) => {
        this.#transfer(list, length, count, (bytes) => this.#open(fd).readInto(bytes));
      },
      fd_write: (fd: number, list: number, length: number, count: number) => {
        this.#transfer(list, length, count, (bytes) => this.#open(fd).writeFrom(bytes));
      },
      path_readlink: (fd: number, path: number, pathLength: number, target: number, length: number, count: number) => {
        const link = new TextEncoder().encode(this.#open(fd).readLink(this.#text(path, pathLength))).subarray(0, length);
        this.#bytes(target, link.length).set(link);
        this.#view.setUint32(count, link.length, true);
      },
      path_link: (fd: number, _flags: number, path: number, length: number, folder: number, newPath: number, newLength: number) => {
        this.#open(fd).linkTo(this.#text(path, length), this.#open(folder), this.#text(newPath, newLength));
      },
      path_rename: (fd: number, path: number, length: number, folder: number, newPath: number, newLength: number) => {
        this.#open(fd).renameTo(this.#text(path, length), this.#open(folder), this.#text(newPath, newLength));
      },
    };
  }

  /** Of one buffer after another, until one is not filled, or emptied. */
  #transfer(list: number, length: number, count: number, transfer: (bytes: Uint8Array) => number): void {
    let total = 0;
    for (const { buf, buf_len: bytes } of wasi.Iovec.read_bytes_array(this.#view, list, length)) {
      const done = transfer(this.#bytes(buf, bytes));
      total += done;
      if (done < bytes) break;
    }
    this.#view.setUint32(count, total, true);
  }
}

/** Errors become WASI's numbers; addresses above 2 GB, which arrive as negative numbers, what they are. */
function withErrorNumbers(call: Call): Call {
  return (...values) => {
    try {
      return call(...values.map((value) => (typeof value === 'number' ? value >>> 0 : value))) ?? wasi.ERRNO_SUCCESS;
    } catch (error) {
      if (error instanceof WASIProcExit) throw error;
      const { code } = error as { code?: unknown };
      if (typeof code !== 'string') throw error;
      return (wasi as unknown as Record<string, number>)[`ERRNO_${code.slice(1)}`] ?? wasi.ERRNO_IO;
    }
  };
}
