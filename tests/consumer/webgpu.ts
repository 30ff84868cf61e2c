// The same where the program has types of WebGPU.
import { type Archive, open } from 'mcwc';

export async function upload(archive: Archive, device: GPUDevice): Promise<GPUBuffer> {
  await open('model.mcwc', { device });
  // @ts-expect-error
  await open('model.mcwc', { device: {} });
  const { buffer } = await archive.gpuTensor('weight');
  const { data } = await archive.tensor('weight');
  device.queue.writeBuffer(buffer, 0, data);
  return buffer;
}
