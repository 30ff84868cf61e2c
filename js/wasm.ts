// The wasm module: found, compiled once, instantiated once on each thread.
import { Archive, initSync } from 'mcwc-wasm';
import { loadWasm } from './platform.js';
import type { OpenOptions } from './types.js';

export { Archive };

const modules = new Map<string, Promise<WebAssembly.Module>>();
let memory: WebAssembly.Memory | undefined;

export async function compile({ wasm, wasmUrl }: OpenOptions): Promise<WebAssembly.Module> {
  if (wasm) return wasm instanceof WebAssembly.Module ? wasm : WebAssembly.compile(wasm);
  const url = new URL(wasmUrl ?? new URL('./mcwc_bg.wasm', import.meta.url), globalThis.location?.href);
  const module = modules.get(url.href) ?? loadWasm(url);
  modules.set(url.href, module);
  module.catch(() => modules.delete(url.href));
  return module;
}

/** The memory of this thread's instance. */
export function instantiate(module: WebAssembly.Module): WebAssembly.Memory {
  return (memory ??= initSync({ module }).memory);
}
