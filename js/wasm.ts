// A compiled module and its bindings -> an instance, one on each thread.
import type { Archive, initSync } from 'mcwc-wasm';
import type { Backend } from './types.js';

/** What both modules have; that of WebGPU has more. */
export interface Bindings {
  Archive: typeof Archive;
  initSync: typeof initSync;
}

/** A module that is ready on this thread. */
export interface Wasm {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly Archive: typeof Archive;
  /** Which of the two modules it is, and so which worker has its bindings. */
  readonly builtFor: Backend;
}

export type WasmArchive = Archive;

export function instantiate(module: WebAssembly.Module, { Archive, initSync }: Bindings, builtFor: Backend): Wasm {
  const { memory } = initSync({ module });
  return { module, memory, Archive, builtFor };
}
