// What is loaded only where there is a GPU: what decodes on it, and the bindings of the module that does.
export { Archive, initSync } from 'mcwc-gpu-wasm';
export { createGpu } from './gpu-device.js';
export { GpuReader } from './gpu-reader.js';
