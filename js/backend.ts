// Which backend an archive gets, and why. That is decided first, because each has a wasm module of its own: the module for
// WebGPU also does whatever the other does.
import { Archive, initSync } from 'mcwc-wasm';
import { McwcError } from './errors.js';
import type { GpuReader, GpuReaderOptions } from './gpu-reader.js';
import { address, loadWasm } from './platform.js';
import type { ArchiveOptions } from './types.js';
import { type Wasm, instantiate } from './wasm.js';

export interface Acquired {
  /** What decodes an archive on the GPU; undefined if there is none. */
  readOnGpu: ((options: GpuReaderOptions) => GpuReader) | undefined;
  backendReason: string;
}

export interface Loaded {
  wasm: Wasm;
  /** A GPU that proves unusable leaves the CPU, and a reason; rejects if WebGPU was insisted on. */
  acquired: Promise<Acquired>;
}

const modules = new Map<string, Promise<WebAssembly.Module>>();
/** Asked for once: browsers log each time that there is none. */
let adapter: Promise<GPUAdapter | null | undefined> | undefined;

/** Loads one of the two modules, and gets a GPU ready if it is that one. */
export async function loadBackend(options: ArchiveOptions): Promise<Loaded> {
  const { backend = 'auto', device, wasm, wasmUrl } = options;
  let backendReason = 'the CPU was asked for';
  if (backend !== 'cpu') {
    try {
      if (!device) await checkAdapter(backend);
      return await loadGpu(options);
    } catch (error) {
      if (backend === 'webgpu') throw McwcError.from(error, 'gpu');
      backendReason = McwcError.from(error, 'gpu').message;
    }
  }
  const module = wasm ? await compiled(wasm) : await moduleAt(wasmUrl ?? address('wasmUrl', () => new URL('./mcwc_bg.wasm', import.meta.url)));
  const acquired = Promise.resolve({ readOnGpu: undefined, backendReason });
  return { wasm: instantiate(module, { Archive, initSync }, 'cpu'), acquired };
}

async function loadGpu({ backend, device, gpuWasmUrl }: ArchiveOptions): Promise<Loaded> {
  const url = gpuWasmUrl ?? address('gpuWasmUrl', () => new URL('./mcwc_gpu_bg.wasm', import.meta.url));
  const [module, { Archive, GpuReader, createGpu, initSync }] = await Promise.all([moduleAt(url), import('./gpu.js')]);
  const wasm = instantiate(module, { Archive, initSync }, 'webgpu');
  const acquired = createGpu(device).then(
    (gpu) => ({
      readOnGpu: (options: GpuReaderOptions) => new GpuReader(gpu, options, backend === 'webgpu'),
      backendReason: `${gpu.name || 'the GPU'} passed the self-test`,
    }),
    (error) => {
      if (backend === 'webgpu') throw McwcError.from(error, 'gpu');
      return { readOnGpu: undefined, backendReason: McwcError.from(error, 'gpu').message };
    },
  );
  // That is noticed once it is needed.
  acquired.catch(() => {});
  return { wasm, acquired };
}

async function checkAdapter(backend: 'auto' | 'webgpu'): Promise<void> {
  const found = await (adapter ??= globalThis.navigator?.gpu?.requestAdapter({ powerPreference: 'high-performance' }));
  if (!found) throw new McwcError('gpu', 'there is no WebGPU here');
  if (backend === 'auto' && found.info.isFallbackAdapter) {
    throw new McwcError('gpu', 'WebGPU is emulated on the CPU here');
  }
}

async function compiled(wasm: WebAssembly.Module | BufferSource): Promise<WebAssembly.Module> {
  return wasm instanceof WebAssembly.Module ? wasm : WebAssembly.compile(wasm);
}

/** Compiled once; tried again after a failure. */
function moduleAt(address: string | URL): Promise<WebAssembly.Module> {
  const url = new URL(address, globalThis.location?.href);
  const module = modules.get(url.href) ?? loadWasm(url);
  modules.set(url.href, module);
  module.catch(() => modules.delete(url.href));
  return module;
}
