// Which backend an archive gets, and why.
import { McwcError } from './errors.js';
import type { Gpu } from './gpu.js';
import type { OpenOptions } from './types.js';

export interface Acquired {
  gpu: Gpu | undefined;
  backendReason: string;
}

/** Never rejects: without a GPU there is the CPU, and a reason. */
export async function acquireGpu(options: OpenOptions): Promise<Acquired> {
  const { backend = 'auto', device } = options;
  if (backend === 'cpu') return { gpu: undefined, backendReason: 'the CPU was asked for' };
  try {
    if (!device) await checkAdapter(backend);
    // Downloaded only by those who use it.
    const { createGpu } = await import('./gpu.js');
    const gpu = await createGpu(options);
    return { gpu, backendReason: `${gpu.name || 'the GPU'} passed the self-test` };
  } catch (error) {
    return { gpu: undefined, backendReason: McwcError.from(error, 'gpu').message };
  }
}

async function checkAdapter(backend: 'auto' | 'webgpu'): Promise<void> {
  const adapter = await globalThis.navigator?.gpu?.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) throw new McwcError('gpu', 'there is no WebGPU here');
  if (backend === 'auto' && adapter.info.isFallbackAdapter) {
    throw new McwcError('gpu', 'WebGPU is emulated on the CPU here');
  }
}
