// The same where the program has types of WebGPU.
import { type Archive, open } from 'mcwc';

export async function upload(archive: Archive, device: GPUDevice): Promise<GPUBuffer> {
  await open('model.mcwc', { device });
  // @ts-expect-error
  await open('model.mcwc', { device: {} });
  const { buffer } = await archive.gpuTensor('weight');
  const [{ dtype, backend }] = await archive.gpuTensors(['weight'], { dtype: 'f16' });
  console.log(dtype, backend, archive.stats?.decodeMs);
  const { data } = await archive.tensor('weight');
  device.queue.writeBuffer(buffer, 0, data);
  return buffer;
}
