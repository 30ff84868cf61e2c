// What the wasm module's `describe` gives (src/web/archive.rs) -> the same by name.
import type { Description } from './types.js';

export function descriptionOf([integrity, bytes, metadata, files, tensors, frames]: any[]): Description {
  return {
    integrity,
    bytes,
    metadata: Object.fromEntries(metadata),
    files: files.map(([name, bytes]: any[]) => ({ name, bytes })),
    tensors: tensors.map(([name, dtype, shape, bytes, file, offset, frames]: any[]) => {
      return { name, dtype, shape, bytes, file, offset, frames };
    }),
    frames: frames.map(([sideChunk, firstChunk, chunkCount, reference, levelBits, scattered]: any[]) => {
      return { sideChunk, firstChunk, chunkCount, reference, levelBits, scattered };
    }),
  };
}
