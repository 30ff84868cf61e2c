// What adapters know of onnxruntime-web.

/** What is needed of onnxruntime-web: `import * as ort from 'onnxruntime-web'`, `/wasm`, `/webgpu`, `/all` or `/jspi`. */
export interface Runtime {
  InferenceSession: { create(model: Uint8Array, options?: any): Promise<any> };
  Tensor: { new (type: 'float32', data: Float32Array, dims: number[]): any; fromGpuBuffer?(buffer: any, options: any): any };
  env: { wasm?: { proxy?: boolean }; webgpu?: { readonly device?: any }; versions?: { node?: string } };
}
