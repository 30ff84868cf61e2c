// What the wasm module's `describe` gives (src/web/archive.rs) -> the same by name.
import type { FileInfo, TensorInfo } from './types.js';

/** What the header says. */
export interface Description {
  integrity: string;
  bytes: number;
  metadata: Record<string, string>;
  files: FileInfo[];
  tensors: (Omit<TensorInfo, 'file'> & { file: number; offset: number; frames: number[] })[];
  /** The archive's own, then those of its base. */
  frames: Frame[];
}

export interface Frame {
  /** -1 if there is none. */
  sideChunk: number;
  firstChunk: number;
  chunkCount: number;
  /** The frame that it is predicted from; -1 if there is none. Those of the base follow the archive's own. */
  reference: number;
  /** Whether the GPU takes it: levels, not planes. */
  onGpu: boolean;
  /** Whether a chunk's elements lie apart in the tensor. */
  scattered: boolean;
}

export function descriptionOf([integrity, bytes, metadata, files, tensors, frames]: any[]): Description {
  return {
    integrity,
    bytes,
    metadata: Object.fromEntries(metadata),
    files: files.map(([name, bytes]: any[]) => ({ name, bytes })),
    tensors: tensors.map(([name, dtype, shape, bytes, file, offset, frames]: any[]) => {
      return { name, dtype, shape, bytes, file, offset, frames };
    }),
    frames: frames.map(([sideChunk, firstChunk, chunkCount, reference, onGpu, scattered]: any[]) => {
      return { sideChunk, firstChunk, chunkCount, reference, onGpu, scattered };
    }),
  };
}
