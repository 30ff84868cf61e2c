// What `import 'mcwc'` gives.
export type { Archive } from './archive.js';
export { type ErrorCode, McwcError } from './errors.js';
export type { ArchiveFile } from './file.js';
export { type OpenOptions, open } from './open.js';
export type {
  ArchiveSource,
  Backend,
  CacheBackend,
  DType,
  FileInfo,
  FileOptions,
  GpuStats,
  GpuTensor,
  GpuTensorOptions,
  Progress,
  Tensor,
  TensorData,
  TensorInfo,
  TensorOptions,
} from './types.js';
