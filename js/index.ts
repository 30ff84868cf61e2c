// What `import 'mcwc'` gives.
export { type Archive, type ArchiveFile } from './archive.js';
export { type ErrorCode, McwcError } from './errors.js';
export { open } from './open.js';
export type {
  ArchiveSource,
  Backend,
  DType,
  FileInfo,
  FileOptions,
  GpuTensor,
  OpenOptions,
  Progress,
  Tensor,
  TensorData,
  TensorInfo,
  TensorOptions,
} from './types.js';
