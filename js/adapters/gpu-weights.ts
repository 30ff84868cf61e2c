// Weights in buffers of the GPU -> a session of onnxruntime-web that is given them at each run.
import type { Archive } from '../archive.js';
import { McwcError } from '../index.js';
import type { TensorInfo } from '../types.js';
import type { Runtime } from './runtime.js';

export interface Provider {
  name: string;
  device?: GPUDevice;
}

const TYPES: Record<string, string> = { f32: 'float32', f16: 'float16' };

/** The provider of WebGPU among those of a session. */
export function webgpuIn({ executionProviders = [] }: { executionProviders?: readonly (string | Provider)[] }): Provider {
  const provider = executionProviders.find((provider) => provider === 'webgpu' || (provider as Provider).name === 'webgpu');
  if (!provider) throw new McwcError('argument', "weights: 'gpu' needs webgpu among the executionProviders");
  return typeof provider === 'string' ? { name: provider } : provider;
}

/** The device that sessions of a runtime compute on, which has made one already. */
export async function deviceOf({ env }: Runtime, provider: Provider): Promise<GPUDevice> {
  // JSEP takes none but its own, which it lets nobody change.
  const isFixed = Object.getOwnPropertyDescriptor(env.webgpu ?? {}, 'device')?.writable === false;
  const device: GPUDevice | undefined = (!isFixed && provider.device) || (await env.webgpu?.device);
  if (!device) throw new McwcError('gpu', 'the runtime does not tell which device it computes on');
  return device;
}

/** Decodes them, by the names that they are to have. Whoever is given a session `withWeights` destroys them with it. */
export async function gpuWeights(archive: Archive, inputs: Map<string, TensorInfo>, device: GPUDevice, signal?: AbortSignal): Promise<GpuWeights> {
  // Inputs may share a tensor.
  const names = new Set(Array.from(inputs.values(), ({ name }) => name));
  const weights = new GpuWeights(await archive.gpuTensors(names, { pass: 'final', ...(signal && { signal }) }), inputs);
  await weights.check(device);
  return weights;
}

type GpuTensor = Awaited<ReturnType<Archive['gpuTensors']>>[number];

export class GpuWeights {
  constructor(
    private readonly tensors: GpuTensor[],
    private readonly inputs: Map<string, TensorInfo>,
  ) {}

  /** Rejects if the buffers are another device's. */
  async check(device: GPUDevice): Promise<void> {
    device.pushErrorScope('validation');
    const encoder = device.createCommandEncoder();
    for (const { buffer } of this.tensors) encoder.clearBuffer(buffer as GPUBuffer, 0, 0);
    encoder.finish();
    if (!(await device.popErrorScope())) return;
    this.destroy();
    throw new McwcError('argument', 'the archive was opened for another device than that of the runtime');
  }

  destroy(): void {
    for (const { buffer } of this.tensors) buffer.destroy();
  }

  /** The session as one of the model without these inputs; its release destroys them. */
  feed({ Tensor }: Runtime, session: any): any {
    const own = new Map(this.tensors.map((tensor) => [tensor.name, tensor]));
    const feeds: Record<string, unknown> = {};
    for (const [input, { name }] of this.inputs) {
      const { buffer, dtype, shape } = own.get(name)!;
      feeds[input] = Tensor.fromGpuBuffer!(buffer, { dataType: TYPES[dtype], dims: shape });
    }
    const { run, release, inputNames, inputMetadata } = session;
    const isGiven = (name: string) => !(name in feeds);
    return Object.defineProperties(session, {
      run: { value: (given: object, ...rest: unknown[]) => run.call(session, { ...given, ...feeds }, ...rest) },
      release: { value: () => release.call(session).finally(() => this.destroy()) },
      inputNames: { value: inputNames.filter(isGiven) },
      inputMetadata: { value: inputMetadata.filter(({ name }: { name: string }) => isGiven(name)) },
    });
  }
}
