// A compiled module and its bindings -> an instance, one on each thread.
import type { Archive, initSync } from 'mcwc-wasm';
import { McwcError } from './errors.js';
import type { Backend } from './types.js';

/** What both modules have; that of WebGPU has more. */
export interface Bindings {
  Archive: typeof Archive;
  initSync: typeof initSync;
}

/** An archive in either module. */
export type WasmArchive = Archive;

/** A module that is ready on this thread. */
export interface Wasm {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly Archive: typeof Archive;
  /** Which of the two modules it is, and so which worker has its bindings. */
  readonly builtFor: Backend;
}

export function instantiate(module: WebAssembly.Module, { Archive, initSync }: Bindings, builtFor: Backend): Wasm {
  const { memory } = initSync({ module });
  return { module, memory, Archive, builtFor };
}

/** Reads the heads of an archive, of its base, of the base of that, and links them. */
export function parse({ Archive }: Wasm, heads: Uint8Array[]): WasmArchive {
  return heads.reduceRight<WasmArchive | undefined>((base, head) => new Archive(head, base), undefined)!;
}

/** Makes these bytes the payload. */
export function load(archive: WasmArchive, memory: WebAssembly.Memory, payload: Uint8Array): void {
  const at = archive.payload(payload.length);
  new Uint8Array(memory.buffer, at, payload.length).set(payload);
}

/** Throws unless the payload is the one that the header promises for this chunk. */
export function verifyLoaded(archive: WasmArchive, chunk: number): void {
  try {
    archive.verify(chunk);
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError) throw error;
    const { code, message } = McwcError.from(error);
    throw new McwcError(code, message, { chunk });
  }
}
