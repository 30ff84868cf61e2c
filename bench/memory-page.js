// The browser's part of memory.mjs: an archive tensor by tensor, all into the same buffer.
import { watchedBytes } from './memory-probe.js';
import { open } from '/pkg/index.js';

const POLL_MS = 20;

export async function decodeAll(file) {
  let heapBytes = 0;
  const timer = setInterval(() => (heapBytes = Math.max(heapBytes, performance.memory.usedJSHeapSize)), POLL_MS);
  const workerUrl = new URL('./memory-worker.js', import.meta.url);
  const archive = await open(file, { backend: 'cpu', workerUrl });
  const largestBytes = Math.max(...archive.tensors.map(({ bytes }) => bytes));
  let buffers = [new ArrayBuffer(largestBytes), new ArrayBuffer(largestBytes)];
  const names = archive.tensors.map(({ name }) => name);
  const started = performance.now();
  // Two at a time, so that two workers have something to do.
  for (let index = 0; index < names.length; index += buffers.length) {
    const pair = names.slice(index, index + buffers.length);
    const tensors = await Promise.all(pair.map((name, which) => archive.tensor(name, { buffer: buffers[which] })));
    buffers = buffers.map((buffer, which) => tensors[which]?.data.buffer ?? buffer);
  }
  const seconds = (performance.now() - started) / 1000;
  clearInterval(timer);
  const memories = await watchedBytes();
  archive.close();
  return { threads: memories.length, wasmBytes: memories.reduce((sum, bytes) => sum + bytes, 0), heapBytes, largestBytes, seconds };
}
