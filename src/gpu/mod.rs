//! Payloads -> tensors on a GPU: the contract of [`reconstruct`](crate::reconstruct) for whole frames of levels.
//!
//! The CPU looks at what frames a chunk's words: where each lane begins and ends, side arrays, escapes, all of them proven
//! before a shader sees them. The GPU walks the lanes, predicts, un-permutes, scales and casts, by the WGSL twins of these
//! stages. All but one multiplication is integer arithmetic, so that a GPU differs from the CPU by one unit in the last place at
//! most; under a transform, by no more than the sums' roundings (`tolerance.rs`). Frames that a device cannot take are refused as
//! `Unsupported`, and the caller turns to the CPU.

#[cfg(not(target_arch = "wasm32"))]
mod adapter;
mod batch;
#[cfg(target_arch = "wasm32")]
mod browser;
mod cast;
mod coded;
mod decoder;
mod device;
mod error;
mod frame;
mod level_buffer;
#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod navigator;
mod recording;
mod self_test;
mod shader;
#[cfg(not(target_arch = "wasm32"))]
mod tensors;
#[cfg(not(target_arch = "wasm32"))]
mod tolerance;
#[cfg(not(target_arch = "wasm32"))]
mod waiting;
#[cfg(not(target_arch = "wasm32"))]
mod writer;

pub use batch::{Batch, Layout, NeededChunk};
pub use cast::cast;
pub use decoder::Decoder;
pub use device::Device;
pub use frame::{LevelFrame, levels_of};
#[cfg(not(target_arch = "wasm32"))]
pub use native::{Started, expanded_tables};
#[cfg(target_arch = "wasm32")]
pub(crate) use self_test::{ARCHIVE as SELF_TEST, is_right};
pub use shader::{SHADER, WORKGROUP_LEN};
#[cfg(not(target_arch = "wasm32"))]
pub use tolerance::transform_tolerances;
